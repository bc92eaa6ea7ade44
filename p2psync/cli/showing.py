"""Commands that only show something: status, the list of folders, paths.

They ask the running peer; when none runs, status opens the device for a moment under its lock, reads and ends.
"""

from __future__ import annotations

import time

from rich.table import Table
from rich.text import Text

from p2psync.cli.options import PeerOptions
from p2psync.cli.running import ask_running
from p2psync.cli.screen import Screen, bytes_text, clean
from p2psync.errors import UserError
from p2psync.node.control import Json
from p2psync.node.home import Home
from p2psync.planner.shaping import DEFAULT_TYPE


class StatusScreen(Screen):
    """Shows one status."""

    async def show(self, options: PeerOptions) -> None:
        if await ask_running(options, {"command": "status"}, self):
            return
        from p2psync.cli.at_rest import stopped_status  # noqa: PLC0415 (see running.py)

        await self.say(stopped_status(options.home))
        if not self.as_json:
            self.line("no peer runs for this device; p2psync serve starts one")

    async def stop(self, options: PeerOptions) -> None:
        if not await ask_running(options, {"command": "stop"}, Screen(as_json=self.as_json)):
            raise UserError("no peer runs for this device")

    async def say(self, event: Json) -> None:
        if self.as_json:
            await super().say(event)
            return
        for folder in event["folders"]:
            self._show_folder(folder)
        if not event["folders"]:
            self.line("this device has no folder yet; use p2psync share PATH or p2psync join CODE")

    def _show_folder(self, folder: Json) -> None:
        self.line(f"{clean(folder['label'])}  {folder['state']}", style="bold")
        self.line(f"  path     {clean(folder['path'])}   (id {folder['id'][:8]}, {folder['role']})")
        if folder["error"]:
            self.line(f"  error    {clean(folder['error'])}")
        self.line(
            f"  content  {bytes_text(folder['local_bytes'])} here, {bytes_text(folder['global_bytes'])} in all, "
            f"{folder['need_files']} files ({bytes_text(folder['need_bytes'])}) to fetch, "
            f"{bytes_text(folder['upload_bytes'])} to upload, {folder['conflicts']} conflicts"
        )
        if shape := _shape(folder):
            self.line(f"  shape    {shape}")
        if not folder["stores"] and folder["state"] != "paused":
            self.line("  store    none: devices must reach each other (p2psync share PATH --relay URL adds a relay)")
        for store in folder["stores"]:
            state = "in sync" if store["in_sync"] else "connected" if store["connected"] else "not connected"
            reason = f": {clean(store['error'])}" if store["error"] else ""
            self.line(f"  store    {clean(store['url']).split('#')[0]}  {state}{reason}")
        for peer in folder["peers"]:
            self.line(f"  member   {clean(peer['device'])[:7]}  {peer['role']}  {_reached(peer)}{_silence(peer)}")
        for held in folder["held"]:
            device, since = clean(held["device"])[:7], time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
            self.line(
                f"  held     {held['files']} files would be deleted or rewritten by {device}, waiting since {since}"
            )
            self.line(
                f"           p2psync folder accept lets that through, p2psync undo --device {device} --since TIME takes it back"
            )
        for problem in folder["problems"][:20]:
            self.line(f"  problem  {clean(problem['path'])}: {clean(problem['reason'])}")


class FolderTable(StatusScreen):
    """Lists the folders."""

    async def say(self, event: Json) -> None:
        if self.as_json:
            keys = ("id", "label", "path", "role", "state")
            self.print_json({"folders": [{key: folder[key] for key in keys} for folder in event["folders"]]})
            return
        table = Table(box=None, pad_edge=False)
        for title in ("LABEL", "ROLE", "STATE", "ID", "PATH"):
            table.add_column(title)
        for folder in event["folders"]:
            cells = (folder["label"], folder["role"], folder["state"], folder["id"][:8], folder["path"])
            table.add_row(*(Text(clean(cell)) for cell in cells))
        self.console.print(table)


class DeviceTable(StatusScreen):
    """Lists the devices of all folders, this one first."""

    async def say(self, event: Json) -> None:
        devices = _devices(event)
        if self.as_json:
            self.print_json({"devices": devices})
            return
        table = Table(box=None, pad_edge=False)
        for title in ("NAME", "ID", "ROLE", "REACHED"):
            table.add_column(title)
        for device in devices:
            roles = ", ".join(sorted({folder["role"] for folder in device["folders"]}))
            lapsed = any(folder["lapsed"] for folder in device["folders"])
            reached = f"{device['reached']}, lapsed" if lapsed else device["reached"]
            cells = (device["name"] or "-", device["device"][:7], roles or "-", reached)
            table.add_row(*(Text(clean(cell)) for cell in cells))
        self.console.print(table)


def _devices(event: Json) -> list[Json]:
    """From a status: every device once, with its role in each folder."""
    own: Json = {"device": event["device"], "name": event.get("name"), "reached": "this device", "folders": []}
    found: dict[str, Json] = {event["device"]: own}
    for folder in event["folders"]:
        mine = {
            "device": event["device"], "name": own["name"], "role": folder["role"], "reached": own["reached"],
            "heard": None, "lapsed": False,
        }  # fmt: skip
        for peer in (mine, *folder["peers"]):
            device = found.setdefault(
                peer["device"], {key: peer[key] for key in ("device", "name", "reached")} | {"folders": []}
            )
            device["folders"].append(
                {"label": folder["label"]} | {key: peer[key] for key in ("role", "heard", "lapsed")}
            )
    return list(found.values())


def _shape(folder: Json) -> str:
    """What this device keeps differently from the folder, in words; nothing for an ordinary folder that ignores nothing."""
    said = [folder["type"]] if folder["type"] not in (None, DEFAULT_TYPE) else []
    if folder["differing"]:
        said.append(f"{folder['differing']} paths differ from the folder (p2psync folder override publishes them)")
    if folder["local_changes"]:
        said.append(f"{folder['local_changes']} local changes (p2psync folder revert takes them back)")
    if folder["kept"]:
        said.append(f"{folder['kept']} files kept that others deleted")
    if folder["xattrs"]:
        said.append("extended attributes synced")
    if folder["ignore_patterns"]:
        said.append(f"{folder['ignore_patterns']} ignore patterns")
    return ", ".join(said)


def _reached(peer: Json) -> str:
    name = f"{clean(peer['name'])}, " if peer["name"] else ""
    if peer["since"] is None:
        return f"{name}{peer['reached']}: {clean(peer['reason'])}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(peer["since"]))
    passed = (
        f"{bytes_text(peer['received_bytes'])} in ({bytes_text(peer['receive_rate'])}/s), "
        f"{bytes_text(peer['sent_bytes'])} out ({bytes_text(peer['send_rate'])}/s)"
    )
    reason = f"; {clean(peer['reason'])}" if peer["reason"] else ""
    return f"{name}{peer['reached']} since {since}, {passed}{reason}"


def _silence(peer: Json) -> str:
    if not peer["lapsed"]:
        return ""
    heard = "never" if peer["heard"] is None else time.strftime("%Y-%m-%d", time.localtime(peer["heard"]))
    return f"; lapsed, last heard of: {heard}"


def show_paths(home: Home, screen: Screen) -> None:
    """Where everything of this device stands."""
    places = {
        "home": str(home.directory), "keys": str(home.keys), "registry": str(home.registry),
        "folders": str(home.directory / "folders"), "control": str(home.control_socket),
    }  # fmt: skip
    if screen.as_json:
        screen.print_json(places)
        return
    for name, place in places.items():
        screen.line(f"{name:9} {clean(place)}")
