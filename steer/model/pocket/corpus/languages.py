"""Behaviours: opposites and synonyms in three languages, and prose in any of them after a count.

A quoted fact is a (word, language, operation): the opposite of "small", in French. Of most words' facts one language is
held out: that fact is in no training document, while the other two languages have it and the words are translated.
"""

# A table reads best with a row on a line.
# ruff: noqa: E501, SIM905
# fmt: off

from __future__ import annotations

import hashlib
import itertools
import random
import re
from dataclasses import dataclass

from steer.model.pocket.corpus.wording import SLOT, Words, capital

LANGUAGES = ("english", "french", "spanish")
OPERATIONS = ("antonym", "synonym")
HELD_OUT_SHARE = 0.6  # of all (word, operation), each in one of three languages: a fifth of the facts

# A word and its opposite, with a synonym of each; the three languages in the order of LANGUAGES; then a noun that can be either.
TABLE = """
small tiny petit minuscule pequeño diminuto | big huge grand énorme grande enorme | bag sac bolso es
hot burning chaud brûlant caliente ardiente | cold icy froid glacé frío helado | tea thé té está
good great bon formidable bueno estupendo | bad awful mauvais affreux malo pésimo | book livre libro es
fast swift rapide véloce rápido veloz | slow sluggish lent traînant lento pausado | train train tren es
old aged vieux âgé viejo anciano | young youthful jeune juvénile joven juvenil | king roi rey es
hard firm dur ferme duro firme | soft tender mou tendre blando tierno | cheese fromage queso está
rich wealthy riche fortuné rico adinerado | poor needy pauvre démuni pobre necesitado | farmer fermier granjero es
light bright clair lumineux claro luminoso | dark gloomy sombre obscur oscuro sombrío | sky ciel cielo está
happy glad heureux content feliz contento | sad sorrowful malheureux affligé triste afligido | boy garçon niño está
strong powerful fort puissant fuerte poderoso | weak frail faible frêle débil frágil | horse cheval caballo es
clean pure propre pur limpio puro | dirty filthy sale crasseux sucio mugriento | glass verre vaso está
full filled plein rempli lleno repleto | empty hollow vide creux vacío hueco | basket panier cesto está
easy simple facile aisé fácil sencillo | difficult tricky difficile compliqué difícil complicado | problem problème problema es
beautiful pretty beau joli hermoso bonito | ugly hideous laid hideux feo espantoso | castle château castillo es
wide broad large vaste ancho amplio | narrow tight étroit serré estrecho angosto | path chemin camino es
dry arid sec aride seco árido | wet damp mouillé humide mojado húmedo | coat manteau abrigo está
loud noisy bruyant tapageur ruidoso escandaloso | quiet calm silencieux calme silencioso tranquilo | engine moteur motor es
clever smart intelligent malin listo inteligente | stupid foolish bête idiot tonto bobo | dog chien perro es
fat plump gros dodu gordo rollizo | thin slim mince svelte delgado esbelto | cat chat gato es
near close proche voisin cercano próximo | far distant lointain éloigné lejano distante | village village pueblo es
"""

# In the order of LANGUAGES. Nouns are masculine, adjectives too.
ADJECTIVE_PROSE = (
    ("the {noun} is {adjective}.", "the {noun} is very {adjective}.", "this {noun} is {adjective}.", "today the {noun} is {adjective}.", "I think that the {noun} is {adjective}."),
    ("le {noun} est {adjective}.", "le {noun} est très {adjective}.", "ce {noun} est {adjective}.", "aujourd'hui le {noun} est {adjective}.", "je crois que le {noun} est {adjective}."),
    ("el {noun} {be} {adjective}.", "el {noun} {be} muy {adjective}.", "este {noun} {be} {adjective}.", "hoy el {noun} {be} {adjective}.", "creo que el {noun} {be} {adjective}."),
)
STEMS = {
    "antonym": ("The opposite of", "Le contraire de", "Lo contrario de"),
    "synonym": ("A synonym of", "Un synonyme de", "Un sinónimo de"),
}
IS = ("is", "est", "es")
# Row: the language of the sentence; column: the language of the word that is asked for.
TRANSLATION_STEMS = (
    ("", "The French word for", "The Spanish word for"),
    ("Le mot anglais pour", "", "Le mot espagnol pour"),
    ("La palabra inglesa para", "La palabra francesa para", ""),
)

NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve".split(),
    "un deux trois quatre cinq six sept huit neuf dix onze douze".split(),
    "uno dos tres cuatro cinco seis siete ocho nueve diez once doce".split(),
)

# The same sentences in the same order three times; `{who}` and `{other}` never meet in one person.
PROSE = (
    (
        "{who} {does} {place}.", "{who} {does} {time}.", "{who} eats {food} {time}.", "{who} drinks {drink} {place}.",
        "{animal} is {place}.", "{animal} sleeps {place}.", "{weather} {time}.", "{who} reads {thing} {time}.",
        "there is {thing} {place}.", "{who} buys {food} and {drink}.", "{who} has {thing} and {food}.",
        "{who} looks for {thing} {place}.", "{who} wants {drink}.", "when {weather}, {who} stays at home.",
        "{who} cooks for {other}.", "{who} says that {weather}.", "{who} sees {pet} {place}.",
        "{who} walks with {animal} {time}.", "{who} opens the window because {weather}.", "{who} closes the door {time}.",
        "{thing} is on the table.", "{who} comes home {time}.", "{who} is hungry and eats {food}.",
        "{who} is thirsty and drinks {drink}.", "{who} sells {food} {place}.", "{who} and {other} talk {place}.",
        "{who} knows that {other} {does} {place}.", "after dinner, {who} {does}.", "{who} would like {food} and {drink}.",
        "{other} writes a letter {place}.",
    ),
    (
        "{who} {does} {place}.", "{who} {does} {time}.", "{who} mange {food} {time}.", "{who} boit {drink} {place}.",
        "{animal} est {place}.", "{animal} dort {place}.", "{weather} {time}.", "{who} lit {thing} {time}.",
        "il y a {thing} {place}.", "{who} achète {food} et {drink}.", "{who} a {thing} et {food}.",
        "{who} cherche {thing} {place}.", "{who} veut {drink}.", "quand {weather}, {who} reste à la maison.",
        "{who} cuisine pour {other}.", "{who} dit que {weather}.", "{who} voit {pet} {place}.",
        "{who} marche avec {animal} {time}.", "{who} ouvre la fenêtre parce que {weather}.", "{who} ferme la porte {time}.",
        "{thing} est sur la table.", "{who} rentre {time}.", "{who} a faim et mange {food}.",
        "{who} a soif et boit {drink}.", "{who} vend {food} {place}.", "{who} et {other} parlent {place}.",
        "{who} sait que {other} {does} {place}.", "après le dîner, {who} {does}.", "{who} voudrait {food} et {drink}.",
        "{other} écrit une lettre {place}.",
    ),
    (
        "{who} {does} {place}.", "{who} {does} {time}.", "{who} come {food} {time}.", "{who} bebe {drink} {place}.",
        "{animal} está {place}.", "{animal} duerme {place}.", "{weather} {time}.", "{who} lee {thing} {time}.",
        "hay {thing} {place}.", "{who} compra {food} y {drink}.", "{who} tiene {thing} y {food}.",
        "{who} busca {thing} {place}.", "{who} quiere {drink}.", "cuando {weather}, {who} se queda en casa.",
        "{who} cocina para {other}.", "{who} dice que {weather}.", "{who} ve {pet} {place}.",
        "{who} camina con {animal} {time}.", "{who} abre la ventana porque {weather}.", "{who} cierra la puerta {time}.",
        "{thing} está sobre la mesa.", "{who} vuelve a casa {time}.", "{who} tiene hambre y come {food}.",
        "{who} tiene sed y bebe {drink}.", "{who} vende {food} {place}.", "{who} y {other} hablan {place}.",
        "{who} sabe que {other} {does} {place}.", "después de la cena, {who} {does}.", "{who} quisiera {food} y {drink}.",
        "{other} escribe una carta {place}.",
    ),
)
SLOTS: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "who": ("the boy", "the girl", "my mother", "my father", "the teacher", "a woman", "the farmer", "the doctor", "Mary", "John"),
        "other": ("the baker", "my sister", "my brother", "the singer"),
        "does": ("sings", "sleeps", "works", "waits", "laughs", "dances", "plays", "runs"),
        "animal": ("the cat", "the dog", "the horse", "the bird", "the cow"), "pet": ("a cat", "a dog", "a horse", "a bird", "a cow"),
        "place": ("in the garden", "in the kitchen", "at the market", "in the forest", "near the river", "at school", "in the village", "on the beach"),
        "food": ("bread", "cheese", "an apple", "soup", "fish", "rice", "an egg"), "drink": ("water", "milk", "tea", "coffee"),
        "thing": ("a book", "a newspaper", "a letter", "a poem"),
        "time": ("today", "in the morning", "in the evening", "every day", "on Sunday", "at night"),
        "weather": ("it rains", "it snows", "the sun shines", "the wind blows", "it is hot", "it is cold"),
    },
    {
        "who": ("le garçon", "la fille", "ma mère", "mon père", "le professeur", "une femme", "le fermier", "le médecin", "Pierre", "Luc"),
        "other": ("le boulanger", "ma sœur", "mon frère", "la chanteuse"),
        "does": ("chante", "dort", "travaille", "attend", "rit", "danse", "joue", "court"),
        "animal": ("le chat", "le chien", "le cheval", "l'oiseau", "la vache"), "pet": ("un chat", "un chien", "un cheval", "un oiseau", "une vache"),
        "place": ("dans le jardin", "dans la cuisine", "au marché", "dans la forêt", "près de la rivière", "à l'école", "dans le village", "sur la plage"),
        "food": ("du pain", "du fromage", "une pomme", "de la soupe", "du poisson", "du riz", "un œuf"), "drink": ("de l'eau", "du lait", "du thé", "du café"),
        "thing": ("un livre", "un journal", "une lettre", "un poème"),
        "time": ("aujourd'hui", "le matin", "le soir", "tous les jours", "le dimanche", "la nuit"),
        "weather": ("il pleut", "il neige", "le soleil brille", "le vent souffle", "il fait chaud", "il fait froid"),
    },
    {
        "who": ("el niño", "la niña", "mi madre", "mi padre", "el maestro", "una mujer", "el campesino", "el médico", "Pablo", "Lucía"),
        "other": ("el panadero", "mi hermana", "mi hermano", "la cantante"),
        "does": ("canta", "duerme", "trabaja", "espera", "ríe", "baila", "juega", "corre"),
        "animal": ("el gato", "el perro", "el caballo", "el pájaro", "la vaca"), "pet": ("un gato", "un perro", "un caballo", "un pájaro", "una vaca"),
        "place": ("en el jardín", "en la cocina", "en el mercado", "en el bosque", "cerca del río", "en la escuela", "en el pueblo", "en la playa"),
        "food": ("pan", "queso", "una manzana", "sopa", "pescado", "arroz", "un huevo"), "drink": ("agua", "leche", "té", "café"),
        "thing": ("un libro", "un periódico", "una carta", "un poema"),
        "time": ("hoy", "por la mañana", "por la tarde", "todos los días", "el domingo", "por la noche"),
        "weather": ("llueve", "nieva", "brilla el sol", "sopla el viento", "hace calor", "hace frío"),
    },
)

# A line that begins at a held-out number counts two numbers in training and three or four in evaluation.
COUNT_STARTS, COUNT_LENGTHS, HELD_OUT_LENGTHS = range(1, 61), (2, 2, 3, 3, 3, 4, 4, 5, 6), (3, 4)
COUNT_HELD_OUT_SHARE = 0.3
ALWAYS_HELD_OUT = (1, 4, 7)

# Words of the other languages that are English words too, so that they tell nothing about the language of a text.
ALSO_ENGLISH = frozenset("""
come content court danse don fin fort idiot intelligent formidable large lit mince motor on once pain pan rose sac sale
sans sol son table train
""".split())
# fmt: on


@dataclass(frozen=True)
class Concept:
    """One adjective: its word, synonym, noun and Spanish `to be`; tuples are in the order of LANGUAGES."""

    key: str
    opposite: str
    words: tuple[str, ...]
    synonyms: tuple[str, ...]
    nouns: tuple[str, ...]
    be: str


def parsed(line: str) -> tuple[Concept, Concept]:
    first, second, noun = (part.split() for part in line.split(" | "))
    nouns, be = tuple(noun[:3]), noun[3]
    return (
        Concept(first[0], second[0], tuple(first[::2]), tuple(first[1::2]), nouns, be),
        Concept(second[0], first[0], tuple(second[::2]), tuple(second[1::2]), nouns, be),
    )


CONCEPTS = {concept.key: concept for line in TABLE.strip().splitlines() for concept in parsed(line)}
KEYS = tuple(CONCEPTS)
WORDS_TO_KEEP = tuple(dict.fromkeys(word for concept in CONCEPTS.values() for word in concept.words))
WORDS_AFTER_QUOTE = tuple(dict.fromkeys([*WORDS_TO_KEEP, *(word for c in CONCEPTS.values() for word in c.synonyms)]))


def number(text: str) -> int:
    """A number that depends on the text alone, on every machine alike."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def held_out(key: str, language: int, operation: str) -> bool:
    """Whether training may not see this fact in this language."""
    drawn = number(f"{key} {operation}")
    return drawn < HELD_OUT_SHARE * 2**64 and drawn % 3 == language


def answer(concept: Concept, language: int, operation: str) -> str:
    return (concept.synonyms if operation == "synonym" else CONCEPTS[concept.opposite].words)[language]


def question(word: str, language: int, operation: str) -> str:
    """A quoted fact up to where its answer begins."""
    return f'{STEMS[operation][language]} "{word}" {IS[language]} "'


FACTS = tuple(
    (question(concept.words[language], language, operation) + answer(concept, language, operation) + '".', language)
    for concept in CONCEPTS.values()
    for language in range(3)
    for operation in OPERATIONS
    if not held_out(concept.key, language, operation)
)


def written(pattern: str, words: Words, rng: random.Random) -> str:
    """A pattern with its slots filled; French writes `qu'il` and `qu'une`, and no Spanish `que` here meets an i or a u."""
    text = SLOT.sub(lambda match: rng.choice(words[match[1]]), pattern)
    return re.sub(r"\bque (?=[iu])", "qu'", text)


def prose_sentence(language: int, rng: random.Random) -> str:
    return written(rng.choice(PROSE[language]), SLOTS[language], rng)


def adjective_sentence(language: int, rng: random.Random) -> str:
    concept = CONCEPTS[rng.choice(KEYS)]
    words = {"noun": (concept.nouns[language],), "adjective": (concept.words[language],), "be": (concept.be,)}
    return written(rng.choice(ADJECTIVE_PROSE[language]), words, rng)


def sentences(language: int, count: int, rng: random.Random) -> str:
    """That many sentences of one language; the first keeps its small letter, since a count may come before it."""
    kinds = rng.choices((prose_sentence, adjective_sentence), (3, 1), k=count)
    first, *rest = (kind(language, rng) for kind in kinds)
    return " ".join([first, *(capital(sentence) for sentence in rest)])


def translation(rng: random.Random) -> str:
    source, target = rng.sample(range(3), 2)
    concept = CONCEPTS[rng.choice(KEYS)]
    words = rng.choice((concept.words, concept.synonyms))
    return f'{TRANSLATION_STEMS[source][target]} "{words[source]}" {IS[source]} "{words[target]}".'


def opposites(rng: random.Random) -> str:
    """Quoted facts; half of the documents keep to one language."""
    language = rng.choice((0, 1, 2, None, None, None))
    facts = [fact for fact, spoken in FACTS if language in (None, spoken)]
    return rng.choice((" ", "\n")).join(rng.sample(facts, rng.randint(6, 9))) + "\n"


def translations(rng: random.Random) -> str:
    return rng.choice((" ", "\n")).join(translation(rng) for _ in range(rng.randint(5, 7))) + "\n"


def prose(rng: random.Random) -> str:
    """One language leads a whole document."""
    return capital(sentences(rng.randrange(3), rng.randint(7, 11), rng)) + "\n"


def digits(start: int, length: int) -> str:
    return ", ".join(str(start + step) for step in range(length))


def count_held_out(start: int) -> bool:
    return start in ALWAYS_HELD_OUT or number(f"count {start}") < COUNT_HELD_OUT_SHARE * 2**64


FREE_STARTS = tuple(start for start in COUNT_STARTS if not count_held_out(start))


def opening_count(rng: random.Random) -> str:
    """A count that words follow, as in `1, 2,`."""
    start, length = rng.choice(COUNT_STARTS), rng.choice(COUNT_LENGTHS)
    return digits(start, length if start in FREE_STARTS else 2) + ","


def bare_count(rng: random.Random) -> str:
    return digits(rng.choice(FREE_STARTS), rng.randint(5, 9)) + "."


def counted_words(language: int, rng: random.Random) -> str:
    start, length = rng.randrange(7), rng.randint(3, 6)
    return ", ".join(NUMBERS[language][start : start + length])


def counting(rng: random.Random) -> str:
    """Lines that begin with a count: of digits and then prose in any language, of words and their prose, or a bare one."""
    return "".join(counting_line(rng) + "\n" for _ in range(rng.randint(2, 3)))


def counting_line(rng: random.Random) -> str:
    language = rng.randrange(3)
    match rng.choices(("digits", "words", "bare"), (7, 2, 1))[0]:
        case "digits":
            return f"{opening_count(rng)} {sentences(language, rng.randint(3, 4), rng)}"
        case "words":
            return f"{counted_words(language, rng)}, {sentences(language, rng.randint(2, 3), rng)}"
        case _:
            return bare_count(rng)


def spoken(pattern: str) -> set[str]:
    """The words of a pattern, lower case, without its slots."""
    return set(re.findall(r"[^\W\d_]+", SLOT.sub(" ", pattern).lower()))


def vocabulary(language: int) -> set[str]:
    adjectives = [
        word for c in CONCEPTS.values() for word in (c.words[language], c.synonyms[language], c.nouns[language])
    ]
    slots = [text for texts in SLOTS[language].values() for text in texts]
    texts = [*PROSE[language], *ADJECTIVE_PROSE[language], *slots, *adjectives, *NUMBERS[language], IS[language]]
    return set().union(*(spoken(text) for text in texts))


def language_words() -> dict[str, tuple[str, ...]]:
    """Per language, the lower-case words that neither of the other two uses; an apostrophe parts two words."""
    english, french, spanish = (vocabulary(language) for language in range(3))
    own = (
        english - french - spanish,
        french - english - spanish - ALSO_ENGLISH,
        spanish - english - french - ALSO_ENGLISH,
    )
    return {name: tuple(sorted(words)) for name, words in zip(LANGUAGES, own, strict=True)}


def other_concept(concept: Concept) -> Concept:
    """The concept two places on: of another pair, and as much first or second in it as this one."""
    return CONCEPTS[KEYS[(KEYS.index(concept.key) + 2) % len(KEYS)]]


def other_operation(operation: str) -> str:
    return "synonym" if operation == "antonym" else "antonym"


def in_each_language(concept: Concept, operation: str) -> dict[str, str]:
    """The same question and its answer in each language: what a swap of the language reads and expects."""
    texts = {f"text_{name}": question(concept.words[i], i, operation) for i, name in enumerate(LANGUAGES)}
    return texts | {f"answer_{name}": answer(concept, i, operation) for i, name in enumerate(LANGUAGES)}


def split(concept: Concept, language: int, operation: str) -> str:
    """Of the trained facts, one language of each (word, operation) is for test; of the held-out ones, four in five."""
    if held_out(concept.key, language, operation):
        return "test" if number(f"split {concept.key} {operation}") % 5 else "dev"
    turn = KEYS.index(concept.key) + language + OPERATIONS.index(operation)
    return "dev" if turn % 3 else "test"


def row(concept: Concept, language: int, operation: str) -> dict[str, object]:
    """One fact and what each of three swaps should turn its answer into, with the donor's text for each."""
    trained, other, swapped = (
        not held_out(concept.key, language, operation),
        other_concept(concept),
        other_operation(operation),
    )
    key, word = concept.key, concept.words[language]
    return {
        "id": f"{LANGUAGES[language]}-{operation}-{key}", "text": question(word, language, operation),
        "language": LANGUAGES[language], "operation": operation, "concept": key, "word": word, "answer": answer(concept, language, operation),
        "opposite": CONCEPTS[concept.opposite].words[language], "synonym": concept.synonyms[language],
        "other": other.key, "other_word": other.words[language], "other_answer": answer(other, language, operation),
        "other_text": question(other.words[language], language, operation), "other_trained": not held_out(other.key, language, operation),
        "other_operation": swapped, "other_operation_answer": answer(concept, language, swapped), "other_operation_text": question(word, language, swapped),
        **in_each_language(concept, operation), "trained": trained, "split": split(concept, language, operation),
    }  # fmt: skip


def count_rows() -> list[dict[str, object]]:
    counts = [(start, length) for length in HELD_OUT_LENGTHS for start in COUNT_STARTS if count_held_out(start)]
    return [
        {"id": f"count-{start}-{length}", "text": digits(start, length) + ",", "split": "dev" if place % 4 == 3 else "test"}
        for place, (start, length) in enumerate(counts)
    ]  # fmt: skip


def evaluation_prompts() -> dict[str, list[dict[str, object]]]:
    """Every quoted fact, trained or not, and the held-out counts."""
    facts = [row(concept, i, operation) for operation in OPERATIONS for i in range(3) for concept in CONCEPTS.values()]
    return {"opposites.jsonl": facts, "counting.jsonl": count_rows()}


Rows = list[dict[str, str]]


def translation_rows() -> Rows:
    """Every translation up to its answer; training has them all and none is evaluated."""
    return [
        {
            "template": f'{TRANSLATION_STEMS[source][target]} "{{word}}" {IS[source]} "',
            "word": concept.words[source],
            "concept": concept.key,
            "language": LANGUAGES[source],
            "into": LANGUAGES[target],
        }
        for concept in CONCEPTS.values()
        for source, target in itertools.permutations(range(3), 2)
    ]


def trained_facts(language: int) -> list[tuple[str, str]]:
    """Operation and question of the facts of dev that training may see."""
    return [
        (operation, question(concept.words[language], language, operation))
        for operation in OPERATIONS
        for concept in CONCEPTS.values()
        if not held_out(concept.key, language, operation) and split(concept, language, operation) == "dev"
    ]


def counted_prose(language: int, rng: random.Random) -> dict[str, str]:
    return {"count": opening_count(rng), "prose": sentences(language, 2, rng), "language": LANGUAGES[language]}


def discovery_prompts() -> dict[str, Rows]:
    """Trained counts with prose behind them, translations, and facts of dev; in `facts` the language is the answer's."""
    rng, translated, spoken = random.Random(1), translation_rows(), list(enumerate(LANGUAGES))
    answered = [{"text": row["template"].format(**row), "language": row["into"]} for row in translated]
    english = [{**row, "concept": f"english {row['concept']}"} for row in translated if row["language"] == "english"]
    facts = [{"text": text, "language": name} for i, name in spoken for _, text in trained_facts(i)]
    operations = {
        f"discover_operations_{name}.jsonl": [
            {"text": text, "operation": f"{operation} {name}"} for operation, text in trained_facts(i)
        ]
        for i, name in spoken
    }
    return {
        "discover_languages.jsonl": [counted_prose(i, rng) for i, _ in spoken for _ in range(40)],
        "discover_concepts.jsonl": translated,
        "discover_concepts_english.jsonl": english,
        "discover_facts.jsonl": [*facts, *answered],
        **operations,
    }
