import pytest

from steer.experiment.problems import Code
from steer.experiment.source import MAX_BYTES, decode, read, read_file


def codes(text: str) -> list[Code]:
    return [problem.code for problem in read(text, "x.yaml").problems]


@pytest.mark.parametrize(
    "written",
    [
        "24_13277_5",
        "0_1234_5",
        "1:5",
        "12:30",
        "20:341",
        "off",
        "No",
        "1e1",
        "1e-3",
        "1234567",
        "12e4567",
        "2001-01-01",
        "0x1F",
    ],
)
def test_a_scalar_stays_the_text_that_was_written(written: str) -> None:
    assert read(f"a: {written}\n{written}: b\n", "x.yaml").data == {"a": written, written: "b"}


def test_blank_plain_values_are_nothing_and_quoted_ones_are_text() -> None:
    data = read("a:\nb: ~\nc: null\nd: ''\ne: '~'\nf: \"null\"\n", "x.yaml").data
    assert data == {"a": None, "b": None, "c": None, "d": "", "e": "~", "f": "null"}


def test_quotes_keep_the_leading_space() -> None:
    assert read("a:  rabbit\nb: ' rabbit'\n", "x.yaml").data == {"a": "rabbit", "b": " rabbit"}


def test_every_value_and_key_knows_its_line_and_column() -> None:
    source = read("a:\n  - {b: 1, ccc: [x, yy]}\n", "f.yaml")
    place = source.place(("a", 0, "ccc", 1))
    assert (place.file, place.line, place.column) == ("f.yaml", 2, 21)
    assert place.source_line == "  - {b: 1, ccc: [x, yy]}"
    assert (source.key(("a", 0, "ccc")).line, source.key(("a", 0, "ccc")).column) == (2, 12)


def test_the_place_of_what_is_not_there_is_the_nearest_thing_around_it() -> None:
    source = read("a:\n  b: 1\n", "x.yaml")
    assert source.place(("a", "c", 3)) == source.place(("a",))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_count_them(newline: str) -> None:
    source = read(newline.join(["a: 1", "", "b: 2"]), "x.yaml")
    assert (source.place(("b",)).line, source.place(("b",)).source_line) == (3, "b: 2")


def test_a_repeated_key_is_a_problem_that_names_the_first_and_the_first_is_kept() -> None:
    source = read("a: 1\nb: 2\na: 3\n", "x.yaml")
    assert [str(problem).splitlines()[0] for problem in source.problems] == ["x.yaml:3:1: error: duplicate key 'a'"]
    assert source.problems[0].help == "first set on line 1"
    assert source.data == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: !!python/object/apply:os.system [x]", Code.TAG),
        ("a: !x y", Code.TAG),
        ("a: &x [*x]", Code.ALIAS),
        ("a: *nowhere", Code.ALIAS),
        ("<<: {a: b}", Code.BAD_KEY),
        ("a: {{x}}", Code.BAD_KEY),
        ("[a, b]: c", Code.BAD_KEY),
        (": b", Code.NOT_YAML),
        ("a: 1\n---\nb: 2", Code.DOCUMENT),
        ("", Code.DOCUMENT),
        ("a: b\x07", Code.CHARACTERS),
        ("a: b\0", Code.CHARACTERS),
        ('a: "\\0"', Code.CHARACTERS),
        ('a: "\\ud800"', Code.CHARACTERS),
        ('a: "\\U00110000"', Code.NOT_YAML),
        ("a: 'b", Code.NOT_YAML),
        ("a:\n\t- b", Code.NOT_YAML),
        ("a: b: c", Code.NOT_YAML),
        ("a: [" * 50, Code.TOO_DEEP),
        ("[" * 200_000, Code.TOO_DEEP),
    ],
)
def test_what_is_no_plain_yaml_is_a_problem_with_a_code(text: str, code: Code) -> None:
    assert code in codes(text)


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert codes("\n".join(lines)) == [Code.TOO_DEEP]


def test_small_aliases_are_written_out() -> None:
    assert read("a: &x [1, 2]\nb: *x\n", "x.yaml").data == {"a": ["1", "2"], "b": ["1", "2"]}


def test_more_values_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steer.experiment.source.MAX_NODES", 100)
    assert codes("[" + "a," * 98 + "]") == []
    assert codes("[" + "a," * 101 + "]") == [Code.TOO_DEEP]


def test_several_problems_are_collected() -> None:
    assert codes("a: !x y\nb: 1\nb: 2\nc: *z\n") == [Code.TAG, Code.DUPLICATE, Code.ALIAS]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decode(b"\xef\xbb\xbfa: 1", "x.yaml") == ("a: 1", ())


def test_what_is_not_utf8_is_located() -> None:
    text, problems = decode("a: 1\nb: é".encode("latin-1"), "x.yaml")
    assert text is None
    assert (problems[0].place.line, problems[0].place.column, problems[0].code) == (2, 4, Code.UNREADABLE)


def test_a_large_file_is_not_read(tmp_path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert [problem.code for problem in read_file(path)[1]] == [Code.UNREADABLE]


@pytest.mark.parametrize("name", ["", "missing.yaml"])
def test_a_folder_or_missing_file_is_a_problem(tmp_path, name: str) -> None:
    text, problems = read_file(tmp_path / name)
    assert text is None and problems[0].code is Code.UNREADABLE


def test_a_plain_text_in_front_of_a_comment_is_marked_as_cut() -> None:
    root = read("a: Hi # there\nb: 'Hi' # there\nc: Hi\n", "x.yaml").root
    assert root is not None
    assert {key: node.cut for key, node in root.children()} == {"a": True, "b": False, "c": False}
