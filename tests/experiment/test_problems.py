from steer.experiment.problems import Code, Place, Problem, help_for, ordered, render, render_json, shown, suggestion


def problem(line: int, file: str = "a.yaml", **fields) -> Problem:
    return Problem(Place(file, line, 3, "\t日 x: 1"), "wrong", **fields)


def test_a_block_has_place_message_source_line_caret_and_help() -> None:
    place = Place("e.yaml", 13, 14, "      - {op: clmap}")
    block = str(Problem(place, "'op: clmap' is not one of: clamp", "did you mean 'clamp'?"))
    assert block.splitlines() == [
        "e.yaml:13:14: error: 'op: clmap' is not one of: clamp",
        "   13 |       - {op: clmap}",
        "      |              ^",
        "      = help: did you mean 'clamp'?",
    ]


def test_the_caret_keeps_tabs_and_counts_wide_characters_twice() -> None:
    assert str(problem(1)).splitlines()[2] == "      | \t  ^"


def test_a_long_line_is_shown_around_the_caret() -> None:
    block = str(Problem(Place("a", 1, 501, "x" * 500 + "HERE" + "y" * 500), "wrong")).splitlines()
    assert len(block[1]) < 200
    assert block[1][block[2].index("^") :].startswith("HERE")


def test_a_message_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in str(Problem(Place("a", 1, 1, "\x1b[31m"), "bad \x1b[31m", "try \x07"))


def test_problems_are_sorted_file_by_file_and_line_by_line_and_told_once() -> None:
    found = ordered([problem(9), problem(2), problem(1, "b.yaml"), problem(9)])
    assert [(one.place.file, one.place.line) for one in found] == [("a.yaml", 2), ("a.yaml", 9), ("b.yaml", 1)]


def test_the_last_line_counts_errors_and_not_warnings() -> None:
    warned = problem(1, severity="warning")
    assert render([warned]).splitlines()[-1] != "1 problem; nothing was loaded."
    assert render([warned, problem(2)]).splitlines()[-1] == "1 problem; nothing was loaded."
    assert render([problem(1), problem(2)]).splitlines()[-1] == "2 problems; nothing was loaded."


def test_the_json_form_has_the_documented_keys() -> None:
    assert '"code": "STE007"' in render_json([problem(1, code=Code.DUPLICATE)])
    assert set(problem(1).as_json()) == {"file", "line", "col", "code", "severity", "message", "hint"}


def test_codes_are_unique_and_of_one_form() -> None:
    values = [code.value for code in Code]
    assert len(set(values)) == len(values) and all(len(value) == 6 and value[:3] == "STE" for value in values)


def test_another_tools_word_comes_before_one_that_is_spelled_alike() -> None:
    assert help_for("asserts", ["expectations", "measurements"]) == "this is 'expectations' here"
    assert help_for("coefficient", ["value", "op"]) == "this is 'value' here"
    assert suggestion("clmap", ["clamp", "scale"]) == "clamp"
    assert suggestion("qqqq", ["clamp", "scale"]) is None


def test_a_quoted_value_is_short_and_on_one_line() -> None:
    assert len(shown("x\n" * 100)) < 80 and "\n" not in shown("a\nb")
