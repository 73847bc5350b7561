"""A Notion in a box: a workspace that can be edited, served over HTTP with Notion's shapes and habits."""

from daemon.demo.faults import Faults
from daemon.demo.habits import Habits
from daemon.demo.sandbox import RequestRecord, Sandbox
from daemon.demo.workspace import Workspace

__all__ = ["Faults", "Habits", "RequestRecord", "Sandbox", "Workspace"]
