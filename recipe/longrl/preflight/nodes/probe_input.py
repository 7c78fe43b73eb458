"""The input of every probe: the run's configuration, the node as Ray sees it, and the driver's machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from omegaconf import DictConfig

from recipe.longrl.content_digest import Content


@dataclass(frozen=True)
class ClusterNode:
    """name: host and address, unlike any other node's. free_gpus: those that no other job holds now."""

    id: str
    name: str
    gpus: float
    free_gpus: float


@dataclass(frozen=True)
class DriverFacts:
    """The machine that starts the run, which the nodes must agree with.

    code: digest of LongRL's sources. time: seconds since the epoch. files: configuration key -> digest of the model or
    file it names. folders: folder that the run writes -> name of the file that the driver left there.
    """

    python: str = ""
    code: str = ""
    time: float = 0.0
    files: Mapping[str, Content] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProbeInput:
    """One node's share. config: the run's, resolved."""

    config: DictConfig
    node: ClusterNode
    driver: DriverFacts
