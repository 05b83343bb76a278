"""A small world told in two languages: English, and its words in Arabic script with the adjective after the noun.

It is made so that everything the bilingual recipes read is here in small: sentences of either language, sentences
beside their translations, a lexicon of words, and names tagged in both.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

Word = tuple[str, str]
"""In English, and in the other language."""

PERSONS: tuple[Word, ...] = (
    ("Anna", "آنا"), ("Omar", "عمر"), ("Laila", "ليلى"), ("Peter", "بيتر"), ("Salma", "سلمى"), ("Karim", "كريم"),
    ("Maria", "ماريا"), ("Hasan", "حسن"), ("Julia", "جوليا"), ("Tariq", "طارق"), ("Nadia", "نادية"), ("Simon", "سيمون"),
    ("Yusuf", "يوسف"), ("Clara", "كلارا"), ("Rania", "رانيا"), ("David", "داود"), ("Huda", "هدى"), ("Martin", "مارتن"),
)  # fmt: skip
PLACES: tuple[Word, ...] = (
    ("Cairo", "القاهرة"), ("London", "لندن"), ("Basra", "البصرة"), ("Paris", "باريس"), ("Tunis", "تونس"),
    ("Berlin", "برلين"), ("Damascus", "دمشق"), ("Oslo", "أوسلو"), ("Amman", "عمان"), ("Madrid", "مدريد"),
    ("Muscat", "مسقط"), ("Vienna", "فيينا"), ("Rabat", "الرباط"), ("Lisbon", "لشبونة"), ("Beirut", "بيروت"),
    ("Rome", "روما"),
)  # fmt: skip
NOUNS: tuple[Word, ...] = (
    ("book", "كتاب"), ("house", "بيت"), ("letter", "رسالة"), ("garden", "حديقة"), ("car", "سيارة"), ("door", "باب"),
    ("table", "طاولة"), ("school", "مدرسة"), ("picture", "صورة"), ("shop", "متجر"), ("river", "نهر"), ("lamp", "مصباح"),
    ("ship", "سفينة"), ("chair", "كرسي"), ("clock", "ساعة"), ("bridge", "جسر"), ("teacher", "معلم"), ("doctor", "طبيب"),
)  # fmt: skip
ADJECTIVES: tuple[Word, ...] = (
    ("old", "قديم"), ("new", "جديد"), ("big", "كبير"), ("small", "صغير"), ("red", "أحمر"), ("green", "أخضر"),
    ("beautiful", "جميل"), ("expensive", "غال"), ("quiet", "هادئ"), ("famous", "مشهور"),
)  # fmt: skip
VERBS: tuple[Word, ...] = (
    ("bought", "اشترى"), ("saw", "رأى"), ("sold", "باع"), ("found", "وجد"), ("painted", "رسم"), ("opened", "فتح"),
    ("described", "وصف"), ("wanted", "أراد"),
)  # fmt: skip
SMALL: tuple[Word, ...] = (
    ("the", "ال"), ("in", "في"), ("from", "من"), ("lives", "يسكن"), ("travelled", "سافر"), ("to", "إلى"), ("and", "و"),
    ("is", "هو"), ("yesterday", "أمس"), ("works", "يعمل"), (".", "."), ("with", "مع"), ("near", "قرب"),
)  # fmt: skip
TEMPLATES = (
    "PER lives in LOC .", "PER travelled from LOC to LOC .", "PER bought the ADJ NOUN in LOC .", "the NOUN is ADJ .",
    "PER and PER VERB the NOUN .", "the ADJ NOUN in LOC is ADJ .", "PER works with PER near LOC .",
    "yesterday PER VERB the ADJ NOUN .", "the NOUN near the NOUN is ADJ .", "PER VERB the NOUN from LOC yesterday .",
)  # fmt: skip
SLOTS: dict[str, tuple[Word, ...]] = {
    "PER": PERSONS, "LOC": PLACES, "NOUN": NOUNS, "ADJ": ADJECTIVES, "VERB": VERBS,
}  # fmt: skip
TAGGED = ("PER", "LOC")


@dataclass(frozen=True)
class Sentence:
    """One sentence, word by word in both languages, each with its tags."""

    english: tuple[str, ...]
    arabic: tuple[str, ...]
    english_tags: tuple[str, ...]
    arabic_tags: tuple[str, ...]


def sentences(count: int, seed: int, *, names: slice = slice(None)) -> Iterator[Sentence]:
    """As many sentences, whose persons and places are only those in the slice `names` of each list."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    small = dict(SMALL)
    for _ in range(count):
        words: list[tuple[Word, str]] = []
        for symbol in draw.choice(TEMPLATES).split():
            values = SLOTS.get(symbol, ())[names] if symbol in TAGGED else SLOTS.get(symbol, ())
            word = draw.choice(values) if values else (symbol, small.get(symbol) or dict(VERBS)[symbol])
            words.append((word, symbol))
        other = _after_the_noun(words)
        yield Sentence(
            tuple(word[0] for word, _ in words), tuple(word[1] for word, _ in other),
            tuple(_tag(symbol) for _, symbol in words), tuple(_tag(symbol) for _, symbol in other),
        )  # fmt: skip


def lexicon() -> list[Word]:
    """Every word and its translation."""
    return [word for words in (SMALL, *SLOTS.values()) for word in words]


def _tag(symbol: str) -> str:
    return f"B-{symbol}" if symbol in TAGGED else "O"


def _after_the_noun(words: list[tuple[Word, str]]) -> list[tuple[Word, str]]:
    ordered = list(words)
    for place in range(len(ordered) - 1):
        if ordered[place][1] == "ADJ" and ordered[place + 1][1] == "NOUN":
            ordered[place], ordered[place + 1] = ordered[place + 1], ordered[place]
    return ordered
