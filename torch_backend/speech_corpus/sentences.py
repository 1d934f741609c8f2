"""Sentences for synthesis, made from word lists and templates of our own and from the lexicon; nothing else.

They are rich in what a mouth shows: bilabials, labiodentals, rounded and open vowels, and their mixtures.
"""

from __future__ import annotations

import numpy as np

from torch_backend.speech_corpus.lexicon import compute_word_weights


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", " ").split(",") if part.strip())


_SUBJECTS = _split(
    """I, you, he, she, we, they, my mother, my father, your brother, the boy, a young woman, the old man, the baby,
    our neighbour, everybody, nobody, the teacher, the president, a few people, some friends, the big dog, that puppy,
    the voice, Bob, Pam, Mary, Philip, Eve, Victor, Amy, Wendy, George, Sue, Joe, Thomas, Beth, the farmer, her family,
    the brave wolf, the whole village, my best friend, a famous painter, the bus driver, someone above, Oliver"""
)
_VERBS = _split(
    """took, brought, bought, put down, picked up, found, loved, wanted, gave up, moved, watched, pushed, pulled,
    opened, washed, broke, fixed, left behind, kept, saw, chewed, shook, threw, caught, made, might have had,
    should buy, could play with, would rather have, believes in, looked at, forgot about, asked for, spoke of,
    laughed at, dropped, borrowed, painted, moved away from, measured, may improve, promised, remembers, will employ,
    used to have, wrapped up, climbed over, thought of, enjoyed, never approved of, has just paid for, cooked"""
)
_OBJECTS = _split(
    """the paper boat, a cup of coffee, five blue vases, my favourite book, some bread and butter, the wooden box,
    a huge mouse, the whole thing, two thin feathers, that funny movie, an apple, the open window, those shoes,
    your voice, the beach, a bowl of soup, their baby, a yellow umbrella, the garage, a pile of money, both of them,
    a warm bath, the moon, that job, a pair of gloves, the treasure map, every home, a few tomatoes, the piano,
    a bag of chips, cheap fish, the oil, more power, a fair measure, some vegetables, our country, the phone, a toy,
    the big purple balloon, the thumb, the other hat, a pound of plums, the memory of summer, a proper problem,
    the white wool, a good cook, a new pair of boots, the poem about autumn, their usual choice, the empty bucket"""
)
_ADVERBS = _split(
    """yesterday, before lunch, in the afternoon, again, very carefully, at home, by the river, with great joy,
    without a doubt, for a whole year, on Wednesday morning, above the roof, under the bridge, maybe,
    after five o'clock, right now, over and over, as usual, from the beginning, in the middle of the night,
    for the first time, because of you, if possible, with both thumbs, in February, at number five,
    before the storm, out of pure pleasure, once upon a time, on purpose, from above, two months ago"""
)
_EXCLAMATIONS = _split(
    """oh my, wow, no way, yes of course, hello everybody, good morning, how are you, what do you mean,
    thank you very much, I am so sorry, please come back, move over, never mind, give me five, be quiet, let me see,
    why not, go away, not bad at all, here we go, what a beautiful view, are you sure about that,
    where have you been, who knows, I love it, watch out, come on, bye bye, happy birthday, maybe tomorrow,
    you must be joking, that would be perfect, I don't believe it, well done, mind the gap, have some more,
    pay attention, keep your voice down, may I help you, above all, I wouldn't say so, that's a pity"""
)
_NUMBERS = _split(
    """zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fifteen, twenty,
    thirty, forty, fifty, sixty, seventy, hundred, thousand, million"""
)
_PASSAGES = _split(
    """when we move our lips, we hardly ever think about them; a good voice may be soft and yet be heard from afar;
    my mother put a pot of soup on the stove; people often believe what they hope to be true;
    if you push both buttons, the machine will shut down; above the village, the path becomes steep and rough;
    we walked for five hours before we found water; the weather improved, but the road was still wet;
    whatever happens, please remember to feed the puppy; a few brave men rowed the boat through the waves;
    the museum opens at five in the evening; you should have brought a warmer coat; nobody wants to talk about money;
    the movie was funny, though rather too long; perhaps we ought to wait until the moon is up;
    bees and butterflies flew from bush to bush; how many pounds of plums would you like; put the book back, please;
    she poured the milk into a big blue bowl; the phone was ringing, but both of us were asleep;
    Europe is a small part of a very large world; the boy with the purple hat is my best friend;
    the farmer's wife measured the wool twice; it is possible, but by no means probable;
    most of what we know about the past is in books; five thousand people live above the bay;
    few things are as pleasant as a warm bath in winter; would you mind opening the window a bit;
    they employ more than forty men and women; my favourite month of the year is February;
    we had to give up our plan because of the fog; the puppy jumped over the fence and vanished;
    I would rather have a cup of coffee before we leave; his voice became louder, and everybody turned around;
    bread, butter, beef and ham were all they bought; the whole family moved from Poland to Bombay""".replace(
        ",", "\0"
    ).replace(";", ",")
)  # commas inside a passage survive the split


def generate_sentences(count: int, seed: int) -> list[str]:
    """Make sentences, the same for the same count and seed.

    Args:
        count: how many.
        seed: of the random choice.

    Returns:
        Plain sentences of letters, spaces, apostrophes and commas, without a final stop.

    Raises:
        ValueError: count is negative.
    """
    if count < 0:
        raise ValueError(f"expected count >= 0, got {count}")
    generator = np.random.default_rng([seed, 0x5E27])
    return [_generate_sentence(generator) for _ in range(count)]


def _generate_sentence(generator: np.random.Generator) -> str:
    kind = generator.random()
    if kind < 0.34:
        return f"{_pick(generator, _SUBJECTS)} {_pick(generator, _VERBS)} {_compose_object(generator)}"
    if kind < 0.70:
        return " ".join(_pick_words(generator, int(generator.integers(4, 10))))
    if kind < 0.82:
        return _pick(generator, _PASSAGES).replace("\0", ",")
    if kind < 0.93:
        return f"{_pick(generator, _EXCLAMATIONS)}, {_pick(generator, _EXCLAMATIONS)}"
    numbers = " ".join(_pick(generator, _NUMBERS) for _ in range(int(generator.integers(3, 7))))
    return f"{numbers} {_pick_words(generator, 1)[0]}"


def _compose_object(generator: np.random.Generator) -> str:
    """An object and an adverbial, sometimes with a second clause of lexicon words."""
    phrase = f"{_pick(generator, _OBJECTS)} {_pick(generator, _ADVERBS)}"
    if generator.random() < 0.25:
        phrase += ", " + " ".join(_pick_words(generator, int(generator.integers(2, 5))))
    return phrase


def _pick(generator: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(generator.integers(len(choices)))]


def _pick_words(generator: np.random.Generator, count: int) -> list[str]:
    words, probabilities = compute_word_weights()
    return [words[index] for index in generator.choice(len(words), count, p=probabilities)]
