"""What the studio's page does, over HTTP: it opens, uploads, and calls the handlers of its parts."""

import json
import re
from typing import Any

import httpx

API = "/gradio_api"


class Visitor:
    """Someone who has the page open.

    Args:
        address: of the studio.
    """

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=60)
        self.page = self.http.get("/").text
        found = re.search(r"window\.gradio_config = (\{.*?\});</script>", self.page, re.DOTALL)
        assert found is not None
        self.config = json.loads(found[1])
        self.session = f"session{id(self)}"
        self.seen: list[dict[str, Any]] = []
        self.values = {part["id"]: part["props"].get("value") for part in self.config["components"]}

    def part(self, label: str) -> int:
        """Number of the component with a label or, for a button, a text."""
        found = [
            part["id"]
            for part in self.config["components"]
            if part["props"].get("label") == label or (part["type"] == "button" and part["props"].get("value") == label)
        ]
        assert len(found) == 1, (label, found)
        return int(found[0])

    def handlers(self, label: str, event: str) -> list[int]:
        """Numbers of the handlers of an event, and of those that follow them."""
        part = self.part(label)
        first = [d["id"] for d in self.config["dependencies"] if [part, event] in d["targets"]]
        assert first, (label, event)
        for dependency in self.config["dependencies"]:
            if dependency["trigger_after"] in first:
                first.append(dependency["id"])
        return first

    def call(self, handler: int, data: list[Any]) -> list[Any]:
        """Run a handler; what it gives at its end, with the text of errors that gradio itself tells."""
        joined = self.http.post(
            f"{API}/queue/join", json={"data": data, "fn_index": handler, "session_hash": self.session}
        )
        assert joined.status_code == 200, joined.text
        with self.http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as lines:
            self.seen = []
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                self.seen.append(message)
                if message.get("msg") == "process_completed":
                    assert message["event_id"] == joined.json()["event_id"]
                    return message["output"].get("data", [message["output"]])
        raise AssertionError("the stream ended early")

    def use(self, label: str, event: str, values: dict[str, Any] | None = None) -> list[list[Any]]:
        """Run the handlers of an event, as the page would after these values were put into it by label."""
        for name, value in (values or {}).items():
            self.values[self.labelled(name)] = value
        results = []
        for handler in self.handlers(label, event):
            dependency = next(d for d in self.config["dependencies"] if d["id"] == handler)
            found = self.call(handler, [self.values[part] for part in dependency["inputs"]])
            results.append(found)
            for part, value in zip(dependency["outputs"], found, strict=False):
                is_update = isinstance(value, dict) and value.get("__type__") == "update"
                if not is_update:
                    self.values[part] = value
                elif "value" in value:
                    self.values[part] = value["value"]
        return results

    def labelled(self, label: str) -> int:
        """Number of the component with a label, as the page has it at first."""
        parts = self.config["components"]
        return int(next(part["id"] for part in parts if str(part["props"].get("label")) == label))

    def upload(self, **files: bytes) -> list[dict[str, Any]]:
        """Upload files by name (with ``__`` for the dot), and give them as the page does."""
        sent = [("files", (name.replace("__", "."), data)) for name, data in files.items()]
        answer = self.http.post(f"{API}/upload", files=sent)
        assert answer.status_code == 200, answer.text
        return [
            {"path": path, "orig_name": path.rsplit("/", 1)[1], "meta": {"_type": "gradio.FileData"}}
            for path in answer.json()
        ]


def words(html: str) -> str:
    """The text of a piece of HTML."""
    import html as entities

    return entities.unescape(re.sub(r"<[^>]+>", " ", html)).strip()
