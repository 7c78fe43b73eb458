"""The manifests for SkyPilot and Kubernetes match their schemas and LongRL's requirements.

SkyPilot's schemas are its own (Apache-2.0), printed from the version they name. KubeRay publishes one of 20,000 lines;
tests/scripts/schemas/rayjob.yaml is the part that is used here, written by hand.
"""

import json
import os
import shlex
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml

from recipe.longrl import settings
from recipe.longrl.preflight import cluster, placement

pytestmark = pytest.mark.engine
SCHEMAS, SCRIPTS = Path(__file__).parent / "schemas", Path(__file__).resolve().parents[2] / "scripts"
SKYPILOT = json.loads((SCHEMAS / "skypilot.json").read_text())
RAYJOB = yaml.safe_load((SCHEMAS / "rayjob.yaml").read_text())


@pytest.fixture
def sky():
    return yaml.safe_load((SCRIPTS / "skypilot" / "longrl.yaml").read_text())


@pytest.fixture
def rayjob():
    return yaml.safe_load((SCRIPTS / "kubernetes" / "rayjob.yaml").read_text())


def test_skypilot(sky):
    jsonschema.validate(sky, SKYPILOT["task"])
    jsonschema.validate(sky["resources"], SKYPILOT["resources"])
    with pytest.raises(jsonschema.ValidationError, match="nodes"):
        jsonschema.validate({**sky, "nodes": 2}, SKYPILOT["task"])
    for script in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=sky[script], text=True, check=True)
    config = settings.compose(shlex.split(sky["envs"]["OVERRIDES"]))
    per_node = int(sky["resources"]["accelerators"].split(":")[1])
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (sky["num_nodes"], per_node)


def test_skypilots_nodes_share_a_token_and_overrides_are_kept(sky, tmp_path: Path):
    """Run the script of both nodes with a fake Ray and a fake training; the second node starts first."""
    scripts = tmp_path / "scripts"
    (scripts / "ray").mkdir(parents=True)
    shutil.copy(SCRIPTS / "lib.sh", scripts)
    (scripts / "ray" / "node.sh").write_text(
        """case $1 in
          head | worker) echo "$1 $(cat)" >"node-$SKYPILOT_NODE_RANK" ;;
          wait) until [ -s node-1 ]; do sleep 0.1; done ;;
        esac"""
    )
    (tmp_path / "run_longrl.sh").write_text("printf '%s\\n' \"$@\" >given")
    script = sky["run"].replace("/shared", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    overrides = "hardware=16gpu\ndata.train_files=\"['a b.parquet', 'c']\" # two lines,\n  x='it is'"
    environment = {"PATH": os.environ["PATH"], **{name: value or "x" for name, value in sky["envs"].items()}}
    environment |= {"OVERRIDES": overrides, "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": "2"}
    environment |= {"SKYPILOT_TASK_ID": "sky-1"}
    nodes = []
    for rank in (1, 0):
        node_environment = environment | {"SKYPILOT_NODE_RANK": str(rank)}
        nodes.append(
            subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=node_environment, stdin=subprocess.DEVNULL)
        )
    assert [node.wait(30) for node in nodes] == [0, 0]
    (worker, its), (head, token) = ((tmp_path / f"node-{rank}").read_text().split() for rank in (1, 0))
    assert (worker, head) == ("worker", "head")
    assert its == token
    assert len(token) == 64
    assert list((tmp_path / "shared").iterdir()) == []
    words = ["hardware=16gpu", "data.train_files=['a b.parquet', 'c']", "#", "two", "lines,", "x=it is"]
    assert (tmp_path / "given").read_text().splitlines()[1:] == words


def test_rayjob(rayjob):
    jsonschema.validate(rayjob, RAYJOB)
    wrong = deepcopy(rayjob)
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    with pytest.raises(jsonschema.ValidationError, match="container"):
        jsonschema.validate(wrong, RAYJOB)


def test_the_rayjob_is_closed_to_others(rayjob):
    """It requires a token, and the network policy selects its pods."""
    cluster = rayjob["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    policy = yaml.safe_load((SCRIPTS / "kubernetes" / "networkpolicy.yaml").read_text())
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert chosen.items() <= group["template"]["metadata"]["labels"].items()
    pods, others = policy["spec"]["ingress"]
    assert pods == {"from": [{"podSelector": {"matchLabels": chosen}}]}
    assert others["ports"] == [{"protocol": "TCP", "port": 8265}]
    submitter, _operator = others["from"]
    assert submitter["podSelector"]["matchLabels"] == {"batch.kubernetes.io/job-name": rayjob["metadata"]["name"]}


def test_rayjob_has_enough_memory_for_its_training(rayjob):
    bash, flag, script = shlex.split(rayjob["spec"]["entrypoint"])
    assert (bash, flag) == ("bash", "-c")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    config = settings.compose(shlex.split(shlex.split(script.split("settings=")[1])[0].rstrip(";")))
    settings.resolve(config, dry_run=True)
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    nodes = [(int(limits["nvidia.com/gpu"]), int(limits["cpu"]))] * group["replicas"]
    assert placement.unplaced_groups(cluster.placement_request(config).groups, nodes) == []
    assert container["resources"]["requests"] == limits
    assert group["minReplicas"] == group["maxReplicas"] == group["replicas"]


def test_rayjob_has_our_ray_version_shared_memory_and_a_shared_volume(rayjob):
    spec = rayjob["spec"]["rayClusterSpec"]
    lock = (SCRIPTS.parent / "requirements" / "gpu.txt").read_text()
    assert f"\nray=={spec['rayVersion']} " in lock
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in mounts["/shared"]
    variables = yaml.safe_load(rayjob["spec"]["runtimeEnvYAML"])["env_vars"]
    assert variables["VERL_USE_EXTERNAL_MODULES"] == "verl_longrl.plugin"
    assert all(isinstance(value, str) for value in variables.values())
