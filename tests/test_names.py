"""What may have been meant: near names first, and all that there are."""

import pytest

from mdl.names import beside, meant, meant_file
from mdl.searches import Search


@pytest.mark.parametrize(
    "name, known, message",
    [
        ("seeed", ["test", "seed"], "; did you mean seed? There are test, seed"),
        ("Accuracy", ["nll", "accuracy"], "; did you mean accuracy? There are nll, accuracy"),
        ("acc", ["accuracy", "nll"], "; did you mean accuracy? There are accuracy, nll"),
        ("seed", ["task.seed", "test"], "; did you mean task.seed? There are task.seed, test"),
        ("x", ["alpha"], "; there are alpha"),
        ("x", [], "; there are none"),
        ("", ["alpha"], "; there are alpha"),
        ("betta", ["beta", *(f"n{i}" for i in range(40))], "; did you mean beta?"),
        ("x", [f"n{i}" for i in range(41)], f"; there are {', '.join(f'n{i}' for i in range(40))}, …"),
    ],
)
def test_near_names_and_all_that_there_are(name, known, message):
    assert meant(name, known) == message


def test_files_beside_one_that_there_is_none_of(tmp_path):
    (tmp_path / "reviews.jsonl").touch()
    assert meant_file(tmp_path / "review.json") == f"; did you mean {tmp_path / 'reviews.jsonl'}?"
    assert meant_file(tmp_path / "other") == ""
    assert meant_file(tmp_path / "no" / "a") == f"; there is no folder {tmp_path / 'no'}"
    assert beside(tmp_path / "no" / "a") == []


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"method": "prequental"}, "unknown method 'prequental'; did you mean prequential? There are "),
        ({"method": "lora", "stages": ("pretraind",)}, "lora: stages: no stage 'pretraind'; did you mean pretrained"),
        ({"method": "lora", "search": {"exmples": 3}}, "lora: unknown search field 'exmples'; did you mean examples?"),
        (
            {"method": "lora", "settings": {"rnk": 3}},
            "lora: unknown setting 'rnk'; did you mean rank? There are ran",
        ),
        ({"method": "icl", "source": "verifid"}, "source='verifid': no such source; did you mean verified? There are"),
        (
            {"method": "lora", "search": {"order": "shrt"}},
            "order='shrt': no such value; did you mean short? There are given, random, short, likely, gain",
        ),
    ],
)
def test_what_a_search_names_is_told_before_anything_is_measured(fields, message):
    with pytest.raises(ValueError) as error:
        Search(**fields)
    assert message in str(error.value)
