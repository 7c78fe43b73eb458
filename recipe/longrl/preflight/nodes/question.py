"""What a node is asked: to compare itself with the driver, with Ray's idea of it, and with what the run needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from omegaconf import DictConfig


@dataclass(frozen=True)
class Node:
    """A node as Ray sees it. name: as users know it, and unlike any other node's; free_gpus: not taken at the moment;
    object_store: bytes."""

    id: str
    name: str
    address: str
    gpus: float
    free_gpus: float
    cpus: float
    object_store: float


@dataclass(frozen=True)
class Driver:
    """The machine that starts the run, as every node should be. environment: variables that the run's processes should
    see; files: what is read everywhere -> fingerprints of its files; folders: what is written everywhere -> the name of
    a file that the driver put there."""

    python: str
    code: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """One node's question; config: the run's, resolved."""

    config: DictConfig
    node: Node
    driver: Driver
