"""The description of AdaptMedSegCLI: to the letter the file beside the program, accepted by Slicer's parser and by
ctk-cli, and free of the mistakes that both let pass. It is compared with what the program really takes.
"""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest
from cli_program import ROOT, SOURCE, program, run

SIDECAR = SOURCE / "AdaptMedSegCLI.xml"
KINDS = {"image", "point", "region", "string", "string-enumeration", "integer", "double", "boolean"}
NUMBERS = {"integer": int, "double": float}


@pytest.fixture(scope="module")
def tree():
    return ElementTree.parse(SIDECAR).getroot()


def parameters(tree):
    """All parameters: whatever in a group is neither its label nor its description."""
    return [one for group in tree.iter("parameters") for one in group if one.tag not in ("label", "description")]


def text(parameter, field):
    return (parameter.findtext(field) or "").strip()


def test_the_answer_to_xml_is_the_file_beside_the_program():
    # Slicer waits five seconds for it, for every module at every start.
    answer = subprocess.run([program(), "--xml"], capture_output=True, timeout=5)
    assert (answer.returncode, answer.stderr) == (0, b"")
    assert answer.stdout == SIDECAR.read_bytes()
    assert answer.stdout == program().with_suffix(".xml").read_bytes()
    assert answer.stdout.startswith(b"<?xml")


def test_the_head_is_complete(tree):
    for field in ("category", "title", "description", "version", "documentation-url", "license", "contributor"):
        assert text(tree, field), field
    manifest = (ROOT / "Cargo.toml").read_text()
    assert text(tree, "version") == re.search(r'^version = "(.+)"', manifest, re.M).group(1)


def test_names_and_flags_are_unique_and_well_formed(tree):
    for field in ("name", "longflag", "flag", "index"):
        given = [text(one, field) for one in parameters(tree) if one.find(field) is not None]
        assert not [value for value, count in Counter(given).items() if count > 1], field
        assert all(re.fullmatch(r"\d+" if field == "index" else r"[A-Za-z][A-Za-z0-9]*", value) for value in given)
    indices = sorted(int(text(one, "index")) for one in parameters(tree) if one.find("index") is not None)
    assert indices == [0, 1]


def test_every_parameter_can_be_passed_and_is_explained(tree):
    for one in parameters(tree):
        name = text(one, "name")
        assert one.tag in KINDS, name
        assert text(one, "label") and text(one, "description").endswith("."), name
        simple_result = text(one, "channel") == "output" and one.tag != "image"
        passed = [field for field in ("longflag", "index") if one.find(field) is not None]
        assert len(passed) == (0 if simple_result else 1), name
        if passed == ["longflag"]:
            assert text(one, "longflag") == name
        if one.tag in ("image", "point", "region"):
            assert text(one, "channel") in ("input", "output"), name
        if one.tag in ("point", "region"):
            assert one.get("coordinateSystem") == "ras", name
            # ctk-cli appends what is given to the default of a repeatable parameter.
            assert one.find("default") is None, name


def test_defaults_are_values(tree):
    for one in parameters(tree):
        name, default = text(one, "name"), text(one, "default")
        if one.tag in NUMBERS:
            value = NUMBERS[one.tag](default)
            if (limits := one.find("constraints")) is not None:
                low, high, step = (float(text(limits, field)) for field in ("minimum", "maximum", "step"))
                assert low <= value <= high and step > 0, name
        if one.tag == "string-enumeration":
            elements = [element.text for element in one.findall("element")]
            assert default in elements and len(set(elements)) == len(elements) > 1, name


def test_the_groups_are_those_of_the_panel(tree):
    assert [text(group, "label") for group in tree.iter("parameters")] == ["IO", "Prompts", "Model", "Advanced"]
    assert [group.get("advanced") for group in tree.iter("parameters")] == [None, None, None, "true"]


def test_the_program_takes_and_explains_what_is_described(tree):
    """Every value of an enumeration and every default gets as far as the missing image."""
    program()
    explained = run("--help").out
    for one in parameters(tree):
        flag = text(one, "longflag")
        if not flag:
            continue
        assert f"--{flag} " in explained
        values = [element.text for element in one.findall("element")]
        if not values:
            values = [{"point": "-1,2.5,3e1", "region": "1,2,3,4,5,6"}.get(one.tag) or text(one, "default") or "x"]
        prompt = [] if flag in ("text", "positivePoints", "box") else ["--box", "0,0,0,1,1,1"]
        adapter = ["--adapter", "x"] if flag == "task" else []
        for value in values:
            done = run(f"--{flag}", value, *prompt, *adapter, "no-such-image.nrrd", "labels.nrrd")
            assert done.code == 4 and "no-such-image.nrrd" in done.err, (flag, value, done.err)


def test_slicers_parser_accepts_it(slicer_host, tree):
    import cli_host
    import slicer

    if not cli_host.supported():
        pytest.skip("skipped: this slicer-core does not export its parser under the known names")
    module = cli_host.CommandLineModule(slicer_host, program(), xml=SIDECAR.read_text())
    node = module.logic.CreateNodeInScene()
    assert isinstance(node, slicer.vtkMRMLCommandLineModuleNode)
    assert node.GetModuleTitle() == "AdaptMedSeg (command line)"
    groups = [node.GetParameterGroupLabel(group) for group in range(node.GetNumberOfParameterGroups())]
    assert groups == ["IO", "Prompts", "Model", "Advanced"]
    places = [(g, i) for g in range(len(groups)) for i in range(node.GetNumberOfParametersInGroup(g))]
    tags = {node.GetParameterName(*place): node.GetParameterTag(*place) for place in places}
    defaults = {node.GetParameterName(*place): node.GetParameterDefault(*place) for place in places}
    assert tags == {text(one, "name"): one.tag for one in parameters(tree)}
    assert (defaults["model"], defaults["mode"], defaults["label"]) == ("builtin", "default", "1")
    with pytest.raises(ValueError):
        cli_host.CommandLineModule(slicer_host, program(), xml="<?xml version='1.0'?><executable><title>")


def test_ctk_cli_accepts_it():
    ctk_cli = pytest.importorskip("ctk_cli", reason="skipped: ctk-cli is absent")
    module = ctk_cli.CLIModule(str(program()))
    indexed, optional, results = ([one.name for one in kind] for kind in module.classifyParameters())
    assert indexed == ["inputVolume", "outputVolume"]
    assert {"text", "positivePoints", "negativePoints", "box", "model"} <= set(optional)
    assert results == ["voxels", "volumeMl", "deviceUsed"]
    parser = ctk_cli.CLIArgumentParser(str(SIDECAR))
    parsed = parser.parse_args(["--mode", "reference", "--text", "liver", "in.nrrd", "out.nrrd"])
    assert (parsed.mode, parsed.text, parsed.label) == ("reference", "liver", 1)
    with pytest.raises(SystemExit):
        parser.parse_args(["--mode", "wrong", "in.nrrd", "out.nrrd"])
