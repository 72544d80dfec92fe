"""One annotation file of Pascal VOC: what its XML says, with the lines where it says so."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import NoReturn
from xml.parsers import expat

from fna_lightning.data.checking.problems import Kind

CORNERS = ("xmin", "ymin", "xmax", "ymax")
_RESTORE = "restore the file"
_TOO_LARGE = 2**31  # pixels, for any picture


class XmlError(Exception):
    """Something in a file that cannot be used.

    Args:
        kind: Of problem.
        what: What is the matter.
        line: Where, counted from 1; None for the file as a whole.
        mend: How to mend it, if the kind's own words do not fit.
    """

    def __init__(self, kind: Kind, what: str, line: int | None = None, mend: str = "") -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.line = line
        self.mend = mend


@dataclass(frozen=True)
class VocObject:
    """One object of an image."""

    name: str
    """Its class."""
    corners: tuple[float, float, float, float]
    """xmin, ymin, xmax, ymax as in the file."""
    difficult: bool
    """Neither required nor counted as wrong by VOC's scores."""
    line: int
    """Where it begins in the file."""


@dataclass(frozen=True)
class VocImage:
    """What a file says of its image."""

    picture: str
    """File name of the image."""
    size: tuple[int, int]
    """Height and width."""
    objects: list[VocObject]
    """Those that can be used."""
    faults: list[XmlError]
    """Why others cannot."""


def parse_annotation(content: bytes, name: str) -> VocImage:
    """Read the content of `Annotations/<name>.xml`; pose, truncation, occlusion and parts are passed over.

    Raises:
        XmlError: It is no such file, belongs to another image, or gives no size.
    """
    root = _Reader().read(content)
    if root.tag != "annotation":
        raise XmlError(
            Kind.ENTRY, f"is no VOC annotation: <{root.tag}> where <annotation> should be", root.line, "convert it"
        )
    picture, size = _picture(root, name), _size(root)
    objects, faults = [], []
    for element in root.children:
        if element.tag == "object":
            try:
                objects.append(_object(element))
            except XmlError as fault:
                faults.append(fault)
    return VocImage(picture, size, objects, faults)


@dataclass(slots=True)
class _Element:
    """One element of a file."""

    tag: str
    line: int
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def child(self, tag: str) -> _Element | None:
        """The child of that name, if there is one.

        Raises:
            XmlError: There are several.
        """
        found = [child for child in self.children if child.tag == tag]
        if len(found) > 1:
            raise XmlError(Kind.ENTRY, f"<{self.tag}> has several <{tag}>", found[1].line, "leave one")
        return found[0] if found else None

    def require(self, tag: str, owner: str, kind: Kind = Kind.ENTRY) -> _Element:
        """The child of that name.

        Raises:
            XmlError: There is none, or several; `owner` says of what.
        """
        child = self.child(tag)
        if child is None:
            raise XmlError(kind, f"{owner} has no <{tag}>", self.line)
        return child

    def number(self, tag: str, owner: str, kind: Kind = Kind.ENTRY) -> float:
        """The number in the child of that name.

        Raises:
            XmlError: There is none, or several.
        """
        child = self.require(tag, owner, kind)
        try:
            return float(child.text)
        except ValueError:
            what = f"{owner} has the {tag} {reprlib.repr(child.text.strip())}, not a number"
            raise XmlError(kind, what, child.line) from None


class _Reader:
    """Builds the tree of one file.

    The parser is expat itself, because only it tells lines. A document type declaration is refused before
    anything in it counts: VOC has none, and entities that expand without end need one.
    """

    def __init__(self) -> None:
        self._open = [_Element("", 0)]
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse

    def read(self, content: bytes) -> _Element:
        """The root of the file.

        Raises:
            XmlError: It is not XML, or declares a document type.
        """
        try:
            self._parser.Parse(content, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise XmlError(Kind.ENTRY, f"is not XML ({reason})", error.lineno, _RESTORE) from None
        except (ValueError, LookupError) as error:  # in an encoding that expat or Python does not have
            raise XmlError(Kind.ENTRY, f"is not XML ({error})", mend="save it in UTF-8") from None
        finally:
            del self._parser  # which holds this object: without the circle, all of it is freed at once
        return self._open[0].children[0]

    def _start(self, tag: str, _attributes: dict[str, str]) -> None:
        element = _Element(tag, self._parser.CurrentLineNumber)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text += text

    def _refuse(self, *_: object) -> NoReturn:
        what = "declares a document type, which could expand without end and is not read"
        raise XmlError(Kind.ENTRY, what, self._parser.CurrentLineNumber, "remove the declaration")


def _picture(root: _Element, name: str) -> str:
    """The image's file name; `<name>.jpg` where the file does not say, or says it without an ending."""
    element = root.child("filename")
    stated = element.text.strip() if element else ""
    if stated in ("", name):
        return f"{name}.jpg"
    path = PurePosixPath(stated)
    if path.name != stated or path.stem != name:
        what = f"says it belongs to {reprlib.repr(stated)}, but is called {name}.xml"
        bare = PureWindowsPath(stated)  # which knows both kinds of separators
        mend = f"write {bare.name} alone" if bare.stem == name else "give both the same name"
        raise XmlError(Kind.ENTRY, what, element.line if element else None, mend)
    return stated


def _size(root: _Element) -> tuple[int, int]:
    size = root.require("size", "the image", Kind.NO_SIZE)
    height, width = (size.number(tag, "the image", Kind.NO_SIZE) for tag in ("height", "width"))
    if not all(side.is_integer() and 1 <= side < _TOO_LARGE for side in (height, width)):
        raise XmlError(Kind.NO_SIZE, f"the image has width {width:g} and height {height:g}", size.line)
    return int(height), int(width)


def _object(element: _Element) -> VocObject:
    name = element.require("name", "an object").text.strip()
    if not name:
        raise XmlError(Kind.ENTRY, "an object has an empty <name>", element.line)
    owner = f"object {reprlib.repr(name)}"
    box = element.require("bndbox", owner)
    left, top, right, bottom = (box.number(tag, owner) for tag in CORNERS)
    difficult = element.child("difficult")
    mark = difficult.text.strip() if difficult else "0"
    if mark not in ("0", "1"):
        line = difficult.line if difficult else element.line
        raise XmlError(Kind.ENTRY, f"{owner} has the mark difficult {reprlib.repr(mark)}, not 0 or 1", line)
    return VocObject(name, (left, top, right, bottom), mark == "1", element.line)
