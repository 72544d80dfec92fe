import csv
import subprocess
import sys

import pytest
import yaml
from omegaconf import OmegaConf

from fna_lightning.costs import Cost
from fna_lightning.reporting.results import write_results
from fna_lightning.reporting.sweep import Job, SweepSummary, job_labels, read_jobs

# A task that costs and scores what its setting says, fails where it is told to, and never imports torch.
APP = """
import json, os, sys
import hydra

@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config):
    folder = hydra.core.hydra_config.HydraConfig.get().runtime.output_dir
    if config.weight == config.fail:
        raise ValueError("told to fail")
    results = {"metrics": {"loss": 1.0, "mAP": config.weight}, "cost": {"madds": 1e9 * config.weight, "params": 5},
               "time": {"training_seconds": 1.0}, "memory": {}, "software": {}}
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump(results, file)

main()
"""
CONFIG = """
weight: 0.1
fail: null
other: 1
hydra:
  callbacks:
    summary:
      _target_: fna_lightning.reporting.sweep.SweepSummary
  sweep:
    dir: sweeps/${now:%Y-%m-%d_%H-%M-%S-%f}
"""


def job(folder, overrides, metrics=None, madds=10):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if metrics is not None:
        write_results(folder, entry="train", metrics=metrics, cost=Cost(madds, 7), input_size=(8, 8), seconds=2.0,
                      images=4, config={})  # fmt: skip


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_show_architectures_as_they_are_typed():
    jobs = [Job(str(n), ("architecture=file", f"architecture.path='{path}'"), None) for n, path in enumerate("ab")]
    assert job_labels(jobs) == ["architecture=a", "architecture=b"]


def test_summary_of_finished_and_failed_jobs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "multirun" / "s"
    for number, weight in enumerate((0.1, 0.2, 0.3)):
        job(
            sweep / str(number),
            ["data=coco", f"cost.weight={weight}"],
            {"mAP": 0.2 + number / 100},
            10**9 * (number + 1),
        )
    job(sweep / "10", ["data=coco", "cost.weight=9"])
    (sweep / "10" / "results.json").write_text("{broken")
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": "multirun/s"}}}), config_name="x")

    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["Sweep", "of", "4", "jobs"]
    assert lines[1] == ["run", "multiply-adds", "parameters", "mAP"]
    assert lines[3] == ["cost.weight=0.1", "1.00", "B", "7", "0.2000"]
    assert lines[6] == ["cost.weight=9", "failed", "-", "-"]
    assert lines[7:9] == [["multirun/s/sweep.csv"], ["multirun/s/pareto.png"]]
    assert lines[9:] == [["Next:"], ["python", "evaluate.py", "checkpoint=multirun/s/2"]]

    table = rows(sweep / "sweep.csv")
    assert [row["job"] for row in table] == ["0", "1", "2", "10"]
    assert [row["status"] for row in table] == ["finished"] * 3 + ["failed"]
    assert table[1]["cost.weight"] == "0.2"
    assert table[1]["data"] == "coco"
    assert float(table[1]["mAP"]) == pytest.approx(0.21)
    assert float(table[1]["madds"]) == 2e9
    assert table[3]["mAP"] == ""
    assert (sweep / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_only_failed_jobs_give_a_table_and_no_picture(tmp_path, capsys):
    job(tmp_path / "0", ["a=1"])
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert "failed" in capsys.readouterr().out
    assert not (tmp_path / "pareto.png").exists()
    assert rows(tmp_path / "sweep.csv")[0]["status"] == "failed"


def test_an_empty_sweep_is_silent(tmp_path, capsys):
    SweepSummary().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "labels"),
    [
        ([["a=1", "b=1"], ["a=1", "b=2"]], ["b=1", "b=2"]),
        ([["a=1"], ["a=1", "b=2"]], ["(job 0)", "b=2"]),
        ([["a=1"], ["a=1"]], ["(job 0)", "(job 1)"]),
        ([["a=1", "b=2"]], ["a=1 b=2"]),
        ([[]], ["(job 0)"]),
    ],
)
def test_only_what_differs_labels_a_job(overrides, labels):
    assert job_labels([Job(str(n), tuple(texts), None) for n, texts in enumerate(overrides)]) == labels


def test_jobs_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("10", "2", "a=1/9", "a=1/10"):
        job(tmp_path / name, [])
    assert [found.name for found in read_jobs(tmp_path)] == ["2", "10", "a=1/9", "a=1/10"]


@pytest.fixture
def app(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "config.yaml").write_text(CONFIG)

    def run(*overrides):
        command = [sys.executable, "app.py", "--config-dir", str(tmp_path), "-m", *overrides]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_a_real_multirun(tmp_path, app):
    done = app("weight=0.1,0.2", "other=3")
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps").iterdir()
    assert [line.split()[0] for line in done.stdout.splitlines() if line.strip().startswith("weight=")] == [
        "weight=0.1",
        "weight=0.2",
    ]
    assert f"sweeps/{sweep.name}/sweep.csv" in done.stdout.splitlines()
    assert (sweep / "pareto.png").exists()


def test_a_failed_job_does_not_cost_the_table_of_the_others(tmp_path, app):
    done = app("weight=0.1,0.2,0.3", "fail=0.2")
    assert done.returncode != 0
    assert "told to fail" in done.stderr
    (sweep,) = (tmp_path / "sweeps").iterdir()
    assert [row["status"] for row in rows(sweep / "sweep.csv")] == ["finished", "failed", "finished"]
    assert done.stdout.count("Sweep of 3 jobs") == 1
    assert "failed" in done.stdout


def test_importing_the_callback_is_light():
    heavy = ("torch", "matplotlib", "numpy", "rich", "lightning")
    code = f"import sys, fna_lightning.reporting.sweep; sys.exit(str(set(sys.modules) & set({heavy}) or 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "0\n"
