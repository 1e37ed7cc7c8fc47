"""Parts shared out by Ray on a cluster of three nodes, of which some are lost."""

import json
import random
import signal
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from embcli import Store
from embcli.encoders import EncoderOptions
from embcli.errors import ModelError, StoreError
from tests.models import WORDS, tiny_bert

pytest.importorskip("ray")
pytest.importorskip("psutil")

from embcli.pipelines.ray_engine import RayOptions, encode_parts_with_ray
from embcli.pipelines.shards import plan_parts, read_part
from tests.engines.ray_cluster import ThreeNodes, start, wait_until

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cluster"))
        # These nodes ask for no token, whatever lies in the user's home.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        nodes = ThreeNodes()
        yield nodes
        nodes.stop()


def write_corpus(path, count, words):
    draw = random.Random(count)
    with path.open("w") as file:
        for number in range(count):
            text = " ".join(draw.choices(WORDS, k=words))
            file.write(json.dumps({"id": f"r{number}", "text": text, "n": number}) + "\n")
    return path


def finished(folder):
    """Which parts are there, with what tells that nobody wrote them again."""
    return {
        path.name: (path.stat().st_mtime_ns, path.stat().st_ino, path.stat().st_size)
        for path in folder.glob("part-*.parquet")
    }


def contents(db):
    rows = {}
    with Store(db, readonly=True) as store:
        for batch in store.collection("default").batches(1000):
            columns = zip(batch.ids, batch.texts, batch.metas, batch.sources, strict=True)
            for (id, *facts), vector in zip(columns, batch.vectors, strict=True):
                rows[id] = (facts, vector)
    return rows


def assert_gathers_as_one_encode(run, folder, source, *options):
    """Every record once in the parts, and in a store what a single process makes of them."""
    ids = [id for path in folder.glob("part-*.parquet") for b in read_part(path) for id in b.ids]
    assert len(ids) == len(set(ids)) == source.read_bytes().count(b"\n")
    assert run("import", f"{folder}/", "-d", "gathered.db").code == 0
    assert run("encode", source, "-d", "single.db", *options).code == 0
    ours, theirs = contents("gathered.db"), contents("single.db")
    assert ours.keys() == theirs.keys()
    for id, (facts, vector) in theirs.items():
        assert ours[id][0] == facts
        np.testing.assert_allclose(ours[id][1], vector, rtol=0, atol=1e-5)


def kill_at_a_part(cluster):
    """Kill a worker that has a part open, if there is one: others lose nothing."""
    from psutil import NoSuchProcess

    with suppress(NoSuchProcess):
        for worker in cluster.workers():
            worker.suspend()
            if any(file.path.endswith(".tmp") for file in worker.open_files()):
                worker.kill()
                return True
            worker.resume()
    return False


def test_every_record_once_whatever_is_killed(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 20_000, words=150)
    folder = home / "parts"
    command = [
        "encode", source, "--to", f"{folder}/", "--engine", "ray", "--address", cluster.address,
        "--part-records", 250,
    ]  # fmt: skip
    first = start(*command, "--workers", 5)
    wait_until(lambda: len(finished(folder)) >= 5, first)
    cluster.workers()[0].kill()
    now = len(finished(folder))
    wait_until(lambda: len(finished(folder)) >= now + 8, first)
    cluster.lose_node()
    now = len(finished(folder))
    assert now < 60, "too late for what is tested"
    wait_until(lambda: len(finished(folder)) >= now + 5, first)
    first.kill()
    first.communicate()
    wait_until(lambda: not cluster.workers())
    before = finished(folder)
    assert len(before) < 80
    again = start(*command, "-f", "json")
    out, err = again.communicate()
    assert again.returncode == 0, err
    (report,) = json.loads(out)
    assert (report["parts"], report["existing"], report["missing"]) == (80, len(before), 0)
    assert before.items() <= finished(folder).items()
    assert_gathers_as_one_encode(run, folder, source)
    cluster.add_node()


def test_a_part_is_done_again_elsewhere_whose_worker_was_killed(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 1_800, words=120)
    model = tiny_bert(home / "model")
    folder = home / "parts"
    job = start(
        "encode", source, "--to", f"{folder}/", "-m", model, "--dtype", "float32",
        "--engine", "ray", "--address", cluster.address, "--part-records", 90, "--workers", 2,
    )  # fmt: skip
    wait_until(lambda: len(finished(folder)) >= 3 and kill_at_a_part(cluster), job)
    out, err = job.communicate()
    assert (job.returncode, out) == (0, ""), err
    # What Ray says of all this stays where it is.
    assert [line.partition(":")[0] for line in err.splitlines()][:1] == ["note"]
    assert "done again" in err
    assert not any(word in err for word in ("raylet", "Traceback", "Dataset", "WARNING", "INFO"))
    assert_gathers_as_one_encode(run, folder, source, "-m", model, "--dtype", "float32")


def test_ctrl_c_leaves_no_worker_and_what_was_done(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 5_000, words=150)
    folder = home / "parts"
    command = [
        "encode", source, "--to", f"{folder}/", "--engine", "ray", "--address", cluster.address,
        "--part-records", 100,
    ]  # fmt: skip
    job = start(*command)
    wait_until(lambda: len(finished(folder)) >= 3, job)
    job.send_signal(signal.SIGINT)
    out, err = job.communicate(timeout=30)
    assert (job.returncode, out) == (130, "")
    assert err.splitlines()[-2:] == [
        "note: parts that are complete stay; the same command again does the rest",
        "interrupted",
    ]
    wait_until(lambda: not cluster.workers())
    before = finished(folder)
    assert 3 <= len(before) < 50
    assert run(*command).code == 0
    assert before.items() <= finished(folder).items()
    assert len(finished(folder)) == 50


def test_workers_that_would_leave_no_cpu_are_refused(cluster, home, run):
    write_corpus(home / "in.jsonl", 20, words=5)
    result = run(
        "encode", "in.jsonl", "--to", "parts/", "--engine", "ray", "--address", cluster.address,
        "--workers", 6, "-q",
    )  # fmt: skip
    assert result.code == 2
    assert result.err == (
        "error: 6 workers cannot run on this cluster: it has 6 CPUs on 3 nodes, of which one CPU "
        "must stay free for Ray's own tasks; try: --workers 5\n"
    )


def test_records_that_cannot_be_read_are_reported_from_wherever_they_were(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 200, words=5)
    with source.open("a") as file:
        file.write("no JSON\n")
    command = [
        "encode", source, "--to", "parts/", "--engine", "ray", "--address", cluster.address,
        "--part-records", 50, "-q",
    ]  # fmt: skip
    strict = run(*command, "--strict")
    assert strict.code == 3
    assert strict.err.startswith("error: on node ")
    assert "in.jsonl:201: not JSON" in strict.err
    assert len(strict.err.splitlines()) == 1
    result = run(*command)
    assert (result.code, result.out) == (3, "")
    assert result.err == "skipped: in.jsonl:201: not JSON: Expecting value (column 1)\n"
    assert len(finished(home / "parts")) == 5


def test_a_node_without_the_model_is_named(cluster, home):
    write_corpus(home / "in.jsonl", 50, words=5)
    model = tiny_bert(home / "model")
    plan, encoder = plan_parts(["in.jsonl"], "parts/", model=str(model), part_records=10)
    encoder.close()
    model.rename(home / "elsewhere")
    with pytest.raises(ModelError, match=r"on node .*: .*model") as caught:
        encode_parts_with_ray(plan, EncoderOptions(), RayOptions(cluster.address, 1))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_shared_is_named(cluster, home):
    write_corpus(home / "in.jsonl", 50, words=5)
    plan, _ = plan_parts(["in.jsonl"], "parts/", part_records=10)
    elsewhere = replace(plan, folder=str(home / "only here"))
    (home / "only here").mkdir()
    with pytest.raises(StoreError, match=r"on node .* is not there as it was planned"):
        encode_parts_with_ray(elsewhere, EncoderOptions(), RayOptions(cluster.address, 1))


def test_a_part_that_costs_every_worker_is_given_up(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 4_000, words=600)
    job = start(
        "encode", source, "--to", "parts/", "--engine", "ray", "--address", cluster.address,
        "--workers", 1, "-q",
    )  # fmt: skip
    killed = []

    def reap():
        killed.append(kill_at_a_part(cluster))
        return job.poll() is not None

    wait_until(reap)
    out, err = job.communicate()
    assert (job.returncode, out) == (5, "")
    assert "1 part could not be encoded in 3 rounds" in err
    assert sum(killed) >= 3
    assert not finished(home / "parts")


def test_a_cluster_is_started_where_none_is_named(home, run):
    source = write_corpus(home / "in.jsonl", 1_000, words=10)
    result = run("encode", source, "--to", "parts/", "--engine", "ray", "--part-records", 200)
    assert (result.code, result.out) == (0, "")
    note, summary = result.err.splitlines()
    assert note.startswith("note: ")
    assert summary.startswith("5 parts: encoded 1,000, reused 0")
    assert_gathers_as_one_encode(run, home / "parts", source)


def test_through_ray_client(cluster, home, run):
    source = write_corpus(home / "in.jsonl", 500, words=10)
    result = run(
        "encode", source, "--to", "parts/", "--engine", "ray", "--part-records", 100,
        "--address", cluster.client_address, "--workers", 2, "-q",
    )  # fmt: skip
    if "Starting Ray client server failed" in result.err:
        pytest.skip("Ray gives its client's server thirty seconds to start, and it took longer")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert_gathers_as_one_encode(run, home / "parts", source)
