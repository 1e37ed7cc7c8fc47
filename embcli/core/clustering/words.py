"""The words of a text in any script, for counting."""

import re
import unicodedata
from functools import cache
from itertools import pairwise

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1780-\u17d3\u3041-\u309f\u30a1-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_THAI = "\u0e00"  # no script without spaces comes before it
_APOSTROPHES = "'’"
# What two forms of a word have in common, in letters and as a share of the longer one.
_PREFIX, _PREFIX_SHARE = 4, 0.55


def words_of(text: str) -> list[str]:
    """Cut a text into its words.

    Parameters
    ----------
    text : str

    Returns
    -------
    words : list of str
        In lower case, composed (NFC), in order; an empty one for punctuation, a single letter, an
        elided word. ``l'homme`` gives ``homme``, ``bank's`` gives ``bank``. An underscore parts
        words. A stretch in a script
        without spaces gives every pair of neighbouring characters, with the marks on them.
    """
    text = unicodedata.normalize("NFC", text).lower()
    tokens = _token().findall(text)
    if not any(apostrophe in text for apostrophe in _APOSTROPHES) and max(text, default="") < _THAI:
        return [token if len(token) > 1 else "" for token in tokens]
    words: list[str] = []
    for token in tokens:
        if unspaced(token):
            characters = _unspaced().findall(token)
            words += [a + b for a, b in pairwise(characters)]
        else:
            words += [word if len(word) > 1 else "" for word in _bare(token)]
    return words


def unspaced(word: str) -> bool:
    """Say whether a word is of a script that is written without spaces."""
    return word > _THAI and _unspaced().match(word) is not None


def akin(a: str, b: str) -> bool:
    """Say whether two words look like forms of one.

    They do if what both begin with is at least four letters and more than half of the longer one
    (transfer, transferring), or all of one and all but the last letter of the other (pin, pins).
    Pairs of characters of a script without spaces do if they have a character in common.
    """
    if unspaced(a) and unspaced(b):
        return bool(set(_unspaced().findall(a)) & set(_unspaced().findall(b)))
    short, long = sorted((len(a), len(b)))
    common = next((i for i in range(short) if a[i] != b[i]), short)
    return common >= max(_PREFIX, _PREFIX_SHARE * long) or common == short >= long - 1


def _bare(token: str) -> list[str]:
    """Take elided words and the possessive off."""
    for apostrophe in _APOSTROPHES:
        if apostrophe in token[1:]:
            first, *_, last = token.split(apostrophe)
            if len(first) <= 2:
                return ["", last]
            return [first if last == "s" else token]
    return [token]


@cache
def _token() -> re.Pattern[str]:
    """Match a word, a stretch without spaces, or a sign of punctuation."""
    # \w does not match combining marks, without which many scripts fall apart.
    letter, unspaced = f"[^\\W_{_UNSPACED}]", f"[{_UNSPACED}][{_UNSPACED}{_marks()}]*"
    word = f"{letter}+(?:[{_marks()}]+{letter}*)*"
    return re.compile(f"{unspaced}|{word}(?:[{_APOSTROPHES}]{word})*|[^\\w\\s-]")


@cache
def _unspaced() -> re.Pattern[str]:
    """Match a character of a script without spaces, with the marks on it."""
    return re.compile(f"(?![{_marks()}])[{_UNSPACED}][{_marks()}]*")


@cache
def _marks() -> str:
    """Give all combining characters, and the joiners used within words."""
    codes = (chr(code) for code in range(0x300, 0x10000))
    return "".join(code for code in codes if unicodedata.category(code)[0] == "M") + "\u200c\u200d"
