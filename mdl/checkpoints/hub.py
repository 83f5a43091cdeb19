"""Checkpoints by name: `owner/name` or `owner/name@revision` on the Hugging Face hub, through its local cache.

Several revisions, `owner/name@r1,r2`, are a sweep: a checkpoint each.
"""

import pathlib
import re

_NAME = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_CONFIG = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
]
_WEIGHTS = ["*.safetensors", "model.safetensors.index.json"]
_OTHER = ["*/*", "consolidated*"]  # copies of the weights in other layouts


def is_name(source: str) -> bool:
    """Whether a text has the form of a name on the hub."""
    return _NAME.fullmatch(source) is not None


def short_name(source: str) -> str:
    """A name that can be part of a file's name: without the owner, the revision behind an @."""
    return source.split("/", 1)[1].replace("/", "-")


def revisions(source: str) -> list[str]:
    """The sources that `owner/name@r1,r2,…` names, one a revision; any other source is itself.

    Raises:
        ValueError: a revision is empty, or named twice.
    """
    repository, _, listed = source.partition("@")
    if "," not in listed or not is_name(repository):
        return [source]
    names = listed.split(",")
    for name in names:
        if not is_name(f"{repository}@{name}") or names.count(name) > 1:
            raise ValueError(f"{source}: revision {name!r} is empty, odd or named twice; give owner/name@r1,r2")
    return [f"{repository}@{name}" for name in names]


def revision(source: str, directory: pathlib.Path) -> str:
    """The revision that a name asks for; where it asks for none, the commit that `fetch` found."""
    return source.partition("@")[2] or directory.name


def fetch(source: str, weights: bool = True) -> pathlib.Path:
    """The local directory of a checkpoint, downloaded where the cache does not have it.

    `huggingface_hub` does the work: HF_HOME moves its cache, HF_HUB_OFFLINE=1 keeps it from the network, HF_TOKEN opens
    gated repositories.

    Args:
        source: `owner/name` or `owner/name@revision`; a branch, tag or commit.
        weights: fetch them too; otherwise config and tokenizer only.

    Raises:
        ValueError: the name or revision does not exist, needs a token, or the hub cannot be reached; the message says
            how to use a local directory instead.
    """
    import huggingface_hub  # imported here: embedded and local checkpoints do without
    from huggingface_hub import errors

    found = _NAME.fullmatch(source)
    if found is None:
        raise ValueError(f"{source!r} is not a name on the hub; give owner/name or owner/name@revision")
    local = "or download it elsewhere and give its local directory"
    try:
        directory = huggingface_hub.snapshot_download(
            found["repository"],
            revision=found["revision"],
            allow_patterns=_CONFIG + (_WEIGHTS if weights else []),
            ignore_patterns=_OTHER,
        )
    except errors.GatedRepoError:
        raise ValueError(
            f"{source}: access is restricted; accept its terms on the hub and set HF_TOKEN, {local}"
        ) from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"{source}: no revision {found['revision'] or 'main'!r}; see its branches") from None
    except errors.RepositoryNotFoundError:
        raise ValueError(f"{source}: no such name on the hub (or it is private: set HF_TOKEN), {local}") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{source}: the hub cannot be reached and its cache does not have it ({type(error).__name__}: "
            f"{reason[:120]}); set HF_ENDPOINT or a proxy, {local}"
        ) from None
    return pathlib.Path(directory)
