"""A Hub in memory at our own seam: repositories with names of files, and errors as huggingface_hub raises them."""

from types import SimpleNamespace
from typing import Any

import httpx
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # exported without a word

TOKEN = "hf_" + "secretsecretsecretsecret1234567890"


def refused(status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> errors.HfHubHTTPError:
    """The Hub's answer as huggingface_hub raises it: its text and its request hold the token."""
    request = httpx.Request("POST", "https://huggingface.co/api", headers={"authorization": f"Bearer {TOKEN}"})
    return kind(f"{status}: Bearer {TOKEN}", response=httpx.Response(status, request=request))


class FakeHub:
    """A Hub of one repository, in memory; raises what it is told to at the step it is told."""

    def __init__(self, held: set[str] | None = None, private: bool = True) -> None:
        self.held, self.private = held, private
        self.fails: dict[str, Exception] = {}
        self.created: list[dict[str, Any]] = []
        self.options: dict[str, Any] = {}
        self.role = "write"
        self.texts: dict[str, str] = {}

    def whoami(self, *, token: str) -> dict[str, Any]:
        self._fail("who")
        return {"name": "kim", "orgs": [{"name": "yard"}], "auth": {"accessToken": {"role": self.role}}}

    def repo_info(self, repo_id: str, *, token: str) -> Any:
        self._fail("look")
        if self.held is None:
            raise refused(404, errors.RepositoryNotFoundError)
        return SimpleNamespace(
            private=self.private, siblings=[SimpleNamespace(rfilename=name) for name in sorted(self.held)]
        )

    def create_repo(self, repo_id: str, *, token: str, private: bool, exist_ok: bool) -> None:
        self._fail("create")
        self.created.append({"repo": repo_id, "private": private, "exist_ok": exist_ok})
        self.held, self.private = {".gitattributes"}, private

    def upload_folder(self, **options: Any) -> None:
        self._fail("upload")
        assert self.held is not None
        self.options = options
        files = [
            str(file.relative_to(options["folder_path"]))
            for file in options["folder_path"].rglob("*")
            if file.is_file()
        ]
        went = set(filter_repo_objects(files, allow_patterns=options["allow_patterns"]))
        self.held |= went
        for name in went:
            if name.endswith((".md", ".json")):
                self.texts[name] = (options["folder_path"] / name).read_text(encoding="utf-8")

    def _fail(self, step: str) -> None:
        if step in self.fails:
            raise self.fails.pop(step)


class Hubs:
    """A Hub of many repositories; `there` are those that exist."""

    def __init__(self, *there: str) -> None:
        self.repos = {name: FakeHub({".gitattributes", "model.safetensors"}) for name in there}
        self.fails: dict[str, Exception] = {}
        self.role = "write"
        self.asked: list[str] = []

    def whoami(self, *, token: str) -> dict[str, Any]:
        fake = FakeHub()
        fake.role = self.role
        return self._told(fake).whoami(token=token)

    def repo_info(self, repo_id: str, *, token: str) -> Any:
        self.asked.append(repo_id)
        return self._told(self.repos.get(repo_id, FakeHub())).repo_info(repo_id, token=token)

    def create_repo(self, repo_id: str, *, token: str, private: bool, exist_ok: bool) -> None:
        made = self._told(FakeHub())
        made.create_repo(repo_id, token=token, private=private, exist_ok=exist_ok)
        self.repos[repo_id] = made

    def upload_folder(self, **options: Any) -> None:
        self._told(self.repos[options["repo_id"]]).upload_folder(**options)

    def _told(self, fake: FakeHub) -> FakeHub:
        fake.fails = self.fails
        return fake
