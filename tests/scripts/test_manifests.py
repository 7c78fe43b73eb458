"""The manifests for SkyPilot and Kubernetes are what their schemas allow and what LongRL can run on.

SkyPilot's schemas are its own (Apache-2.0), printed from the version they name. KubeRay publishes one of 20,000 lines;
tests/scripts/schemas/rayjob.yaml is the part that is used here, written by hand.
"""

import json
import shlex
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


def test_rayjob(rayjob):
    jsonschema.validate(rayjob, RAYJOB)
    wrong = deepcopy(rayjob)
    wrong["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    with pytest.raises(jsonschema.ValidationError, match="container"):
        jsonschema.validate(wrong, RAYJOB)


def test_rayjob_has_room_for_what_it_trains(rayjob):
    bash, flag, script = shlex.split(rayjob["spec"]["entrypoint"])
    assert (bash, flag) == ("bash", "-c")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    config = settings.compose(shlex.split(shlex.split(script.split("settings=")[1])[0].rstrip(";")))
    settings.resolve(config, dry_run=True)
    (group,) = rayjob["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    nodes = [(int(limits["nvidia.com/gpu"]), int(limits["cpu"]))] * group["replicas"]
    assert placement.unplaced(cluster.wanted(config).groups, nodes) == []
    assert container["resources"]["requests"] == limits
    assert group["minReplicas"] == group["maxReplicas"] == group["replicas"]


def test_rayjob_is_this_ray_with_shared_memory_and_a_shared_volume(rayjob):
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
