"""Check messages by the facts that they state (field, value, bound, file), not by their sentences."""

import re


def mentions(*facts: object) -> str:
    """Return a pattern, for `match=`, of any text that states all facts, in any order.

    Case does not count. 1000 finds 1,000 and 1000.0. A plain word also stands for its longer forms:
    `multiple` finds `multiples`, but `train.step` does not find `train.steps`.
    """
    return rf"(?is)\A{''.join(f'(?=.*{_pattern(fact)})' for fact in facts)}"


def assert_mentions(text: str, *facts: object) -> None:
    """Assert that one line of the text states all facts, as `mentions` finds them."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()
    assert any(re.search(mentions(*facts), line) for line in lines), f"no line with {facts} in:\n{text}"


def _pattern(fact: object) -> str:
    if isinstance(fact, int):
        return rf"(?<![\w.,])(?:{fact}|{fact:,})(?:\.0)?(?!\w|[.,]\d)"
    text = str(fact)
    before = r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isalnum() and not text.split()[-1].isalpha() else ""
    return f"{before}{re.escape(text)}{after}"
