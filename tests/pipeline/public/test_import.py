"""`bindcache import`: public tables as published, and small ones in the same layouts made by hand."""

import csv
import json
import math

import pyarrow.parquet as pq
import pytest

from embed.pairs import PairsConfig, read_pairs
from pipeline.config import load
from pipeline.material_commands import _LAYOUTS
from pipeline.public.registry import LAYOUTS

HEAVY = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRY"
    "ADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
)
LIGHT = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK"
ANTIGEN = (
    "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCN"
    "DGRTPGSRNLCNIPCSALLSSDITASVNCAKKIVSDGNGMNAWVAWRNRCKGTDVQAWIRGCRL"
)
SKEMPI2 = [
    "#Pdb", "Mutation(s)_PDB", "Mutation(s)_cleaned", "Hold_out_type", "Affinity_mut (M)", "Affinity_wt (M)",
    "Protein 1", "Protein 2", "Temperature",
]  # fmt: skip
SABDAB = [
    "pdb", "Hchain", "Lchain", "model", "antigen_chain", "antigen_type", "antigen_name", "scfv", "affinity",
    "affinity_method", "temperature",
]  # fmt: skip


def mutated(sequence, *mutations):
    """A sequence with residues replaced, as `K2A`."""
    residues = list(sequence)
    for mutation in mutations:
        assert residues[int(mutation[1:-1]) - 1] == mutation[0]
        residues[int(mutation[1:-1]) - 1] = mutation[-1]
    return "".join(residues)


def read_listing(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def write(tmp_path):
    """Write a file of lines or of rows."""

    def write_file(name, rows, delimiter=","):
        with (tmp_path / name).open("w", newline="") as file:
            if isinstance(rows, str):
                file.write(rows)
            else:
                csv.writer(file, delimiter=delimiter).writerows(rows)
        return tmp_path / name

    return write_file


@pytest.fixture
def imported(bindcache, tmp_path):
    """Import a table; returns what the command said, the pairs by id, and the rejected rows."""

    def run(layout, table, *options):
        out = tmp_path / "pairs.parquet"
        result = bindcache("import", "--from", layout, table, "--out", out, *options, "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        rows = pq.read_table(out).to_pylist()
        listing = tmp_path / "pairs.rejected.csv"
        rejected = read_listing(listing) if listing.exists() else []
        assert said["pairs"] == len(rows)
        assert said["rejected"] == len(rejected) == sum(said["reasons"].values())
        return said, rows, rejected

    return run


@pytest.fixture
def chains(write):
    """The chains of a complex 1ABC: H, L and the antigens C and D, which are equal, and E; 4E10 is a nanobody's."""
    records = {
        "1ABC_1|Chain A[auth H]|Fab heavy|": HEAVY,
        "1ABC_2|Chains B[auth L]|Fab light|": LIGHT,
        "1ABC_3|Chains C, D|Lysozyme|Gallus gallus (9031)": ANTIGEN,
        "1abc_E mol:protein length:8  tag": "MKTAYIAK",
        "4e10_H mol:protein": HEAVY,
        "4E10:P|PDBID|CHAIN|SEQUENCE": ANTIGEN[:60] + "\n" + ANTIGEN[60:],
    }
    return write("chains.fasta", "".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))


def test_every_layout_is_offered():
    """The command lists the registry without importing it."""
    assert tuple(LAYOUTS) == _LAYOUTS


def test_skempi2_rows_become_mutants_and_wild_types(imported, write, chains):
    """Mutations are made in the named chain; `>3E-06` of a Kd is a pKd below; what is no value is listed."""
    wild, name = "2E-09", "1ABC_HL_C"
    rows = [
        ["SH25T,NL30A", "SH25T,NL30A", "AB/AG", "1E-08"],
        ["KC1A", "KC1A", "AB/AG,Pr/PI", ">3E-06"],
        ["KC1A", "KC1A", "AB/AG", "<1E-11"],
        ["VC2A", "VC2A", "AB/AG", "~2.2E-14"],
        ["VC2A", "VC2A", "AB/AG", "n.b"],
        ["VC2A", "VC2A", "AB/AG", "unf"],
        ["LC2A", "LC2A", "AB/AG", "1E-08"],
        ["VC2A", "VC2A", "Pr/PI", "1E-08"],
        ["VZ2A", "VZ2A", "AB/AG", "1E-08"],
    ]
    table = write(
        "skempi_v2.csv",
        [SKEMPI2]
        + [[name, pdb, clean, kind, kd, wild, "Fab", "Lysozyme", "298(assumed)"] for pdb, clean, kind, kd in rows[:4]]
        + [["1ABC_C_HL", pdb, clean, kind, kd, wild, "Lysozyme", "Fab", "298"] for pdb, clean, kind, kd in rows[4:]],
        ";",
    )
    said, pairs, rejected = imported("skempi2", table, "--sequences", chains)
    by_id = {(pair["id"], pair["affinity"]): pair for pair in pairs}
    first = by_id[f"{name}:SH25T+NL30A", "8.0"]
    assert (first["heavy"], first["light"]) == (mutated(HEAVY, "S25T"), mutated(LIGHT, "N30A"))
    assert (first["antigen"], first["antigen_name"], first["sign"]) == (ANTIGEN, "Lysozyme", "=")
    wilds = [pair for pair in pairs if pair["id"] == f"{name}:WT"]
    assert [(pair["pkd"], pair["heavy"], pair["antigen"]) for pair in wilds] == [(-math.log10(2e-9), HEAVY, ANTIGEN)]
    other = next(pair for pair in pairs if pair["id"] == "1ABC_C_HL:WT")
    assert (other["heavy"], other["light"], other["antigen_name"]) == (HEAVY, LIGHT, "Lysozyme")
    bounds = [(pair["sign"], round(pair["pkd"], 4)) for pair in pairs if pair["sign"] != "="]
    assert bounds == [("<", 5.5229), (">", 11.0), ("~", 13.6576)]
    assert next(pair for pair in pairs if pair["sign"] == "<")["antigen"] == mutated(ANTIGEN, "K1A")
    assert [row["row"] for row in rejected] == ["5", "6", "7", "8", "9"]
    assert [row["column"] for row in rejected[:2]] == ["Affinity_mut (M)"] * 2
    assert "residue 2 of chain C is V, not L" in rejected[2]["reason"]
    assert said["rows"] == 9


def test_what_is_imported_is_what_the_pairs_table_reader_understands(imported, write, chains):
    """With the printed section, bounds are censored rows and all else are pairs."""
    table = write(
        "t.csv",
        [SKEMPI2]
        + [["1ABC_HL_C", m, m, "AB/AG", kd, "", "a", "b", ""] for m, kd in (("KC1A", "1E-8"), ("VC2A", ">1E-6"))],
        ";",
    )
    _, pairs, _ = imported("skempi2", table, "--sequences", chains)
    read = read_pairs(PairsConfig(path=table.parent / "pairs.parquet", id="id", affinity="affinity", censored="drop"))
    assert list(read.affinity_N) == [8.0]
    assert [row.value for row in read.rejected] == ["<6.0"]
    assert read.antigens[0] == mutated(ANTIGEN, "K1A")
    assert len(pairs) == 2


def test_sabdab_names_chains_and_keeps_ids_that_look_like_numbers(imported, write, chains):
    """`4E10` stays an id; chains listed with bars are joined, equal ones once; what has no Kd or protein is listed."""
    rows = [
        ["1abc", "H", "L", "0", "C | D", "protein | protein", "lysozyme", "False", "6.4e-09", "SPR", "25"],
        ["4E10", "H", "NA", "0", "P", "peptide", "gp41", "False", "1e-08", "ITC", "NA"],
        ["1abc", "H", "L", "0", "C | E", "protein | peptide", "two", "False", "1E-9", "SPR", "25"],
        ["1abc", "H", "L", "0", "C", "protein", "lysozyme", "False", "None", "None", "NA"],
        ["1abc", "NA", "L", "0", "C", "protein", "lysozyme", "False", "1E-9", "SPR", ""],
        ["1abc", "H", "h", "0", "C", "protein", "lysozyme", "True", "1E-9", "SPR", ""],
        ["1abc", "H", "L", "0", "NA", "Hapten", "digoxin", "False", "1E-9", "SPR", ""],
        ["9xyz", "H", "L", "0", "C", "protein", "lysozyme", "False", "1E-9", "SPR", ""],
    ]
    _, pairs, rejected = imported("sabdab", write("s.tsv", [SABDAB, *rows], "\t"), "--sequences", chains)
    assert [pair["id"] for pair in pairs] == ["1abc_HL_CD", "4E10_H_P", "1abc_HL_CE"]
    assert [pair["light"] for pair in pairs] == [LIGHT, None, LIGHT]
    assert [pair["antigen"] for pair in pairs] == [ANTIGEN, ANTIGEN, ANTIGEN + "MKTAYIAK"]
    assert pairs[0]["pkd"] == pytest.approx(-math.log10(6.4e-9))
    assert [(row["row"], row["column"]) for row in rejected] == [
        ("4", "affinity"), ("5", "Hchain"), ("6", "Lchain"), ("7", "antigen_type"), ("8", "Hchain"),
    ]  # fmt: skip
    assert rejected[-1]["reason"] == "no record 9XYZ_H in --sequences; add it."


def test_flab_finds_the_column_of_kd_or_asks_for_the_unit(imported, error, write, tmp_path):
    """A molar column names its unit; `fitness` alone does not, and the antigen is in no column."""
    antigen = write("a.fasta", f">antigen\n{ANTIGEN}\n")
    rows = [["release statement", "", "", ""], ["heavy", "light", "KD (nM)", "fitness"], [HEAVY, LIGHT, "3.62", "8.44"]]
    rows += [[HEAVY, "", "0", "9"], [HEAVY.lower(), "", "10", "8"], ["", LIGHT, "10", "8"], [HEAVY, LIGHT, "10"]]
    table = write("flab.csv", rows)
    _, pairs, rejected = imported("flab", table, "--sequences", antigen)
    assert [(pair["id"], pair["light"]) for pair in pairs] == [("1", LIGHT), ("3", None)]
    assert [pair["pkd"] for pair in pairs] == pytest.approx([9 - math.log10(3.62), 8.0])
    assert pairs[1]["heavy"] == HEAVY
    assert [(row["row"], row["reason"]) for row in rejected] == [
        ("2", "a Kd is above 0."), ("4", "no residues; give the sequence."), ("5", "3 cells, and the header has 4."),
    ]  # fmt: skip
    bare = write("bare.csv", [["heavy", "light", "fitness"], [HEAVY, LIGHT, "8.44"]])
    arguments = ("import", "--from", "flab", bare, "--sequences", antigen, "--out", tmp_path / "o.parquet")
    assert "say in which unit, as --unit pkd" in error(*arguments)
    _, pairs, _ = imported("flab", bare, "--sequences", antigen, "--unit", "pkd")
    assert pairs[0]["pkd"] == 8.44


def test_abbibench_takes_from_the_fasta_what_has_no_column(imported, error, write, tmp_path):
    """Unit and shared chains are asked for by name."""
    table = write("b.csv", [["mut_heavy_chain_seq", "binding_score"], [HEAVY, "8.5"], [HEAVY, ""]])
    command = ("import", "--from", "abbibench", table, "--out", tmp_path / "o.parquet")
    assert "FASTA records named light and antigen" in error(*command)
    shared = write("s.fasta", f">light\n{LIGHT}\n>antigen\n{ANTIGEN}\n")
    assert "say its unit, as --unit pkd" in error(*command, "--sequences", shared)
    assert "--unit furlong: the units are pkd" in error(*command, "--sequences", shared, "--unit", "furlong")
    _, pairs, rejected = imported("abbibench", table, "--sequences", shared, "--unit", "pkd")
    assert [(pair["light"], pair["antigen"], pair["affinity"]) for pair in pairs] == [(LIGHT, ANTIGEN, "8.5")]
    assert [(row["row"], row["reason"]) for row in rejected] == [("2", "no affinity.")]
    whole = ["heavy_chain_seq", "light_chain_seq", "antigen_seq", "binding_score"]
    _, pairs, _ = imported("abbibench", write("w.csv", [whole, [HEAVY, LIGHT, ANTIGEN, "<9"]]), "--unit", "nM")
    assert [(pair["sign"], pair["pkd"]) for pair in pairs] == [(">", pytest.approx(9 - math.log10(9)))]


def test_alphaseq_is_log10_of_nanomolar_by_target(imported, write):
    """-1 is 0.1 nM; remarks above the header are skipped; missing predictions and targets are listed."""
    header = ["POI", "Sequence", "Target", "Assay", "Replicate", "Pred_affinity", "HC", "LC"]
    rows = [["AAYL49_1", "x", "MIT_Target", "1", "1", value, HEAVY, LIGHT] for value in ("-1.0", "2.5", "", "nan")]
    rows.append(["AAYL49_1", "x", "Control", "1", "1", "3", HEAVY, LIGHT])
    table = write("q.csv", [["# a remark"], [], header, *rows])
    _, pairs, rejected = imported("alphaseq", table, "--sequences", write("t.fasta", f">MIT_Target x\n{ANTIGEN}\n"))
    assert [(pair["id"], pair["pkd"]) for pair in pairs] == [
        ("AAYL49_1:MIT_Target", 10.0),
        ("AAYL49_1:MIT_Target", 6.5),
    ]
    assert [(row["row"], row["reason"]) for row in rejected] == [
        ("3", "no affinity."), ("4", "no affinity."), ("5", "no record Control in --sequences; add it."),
    ]  # fmt: skip


def test_a_folder_of_pdb_files_gives_chains_as_their_atoms_show_them(imported, write, tmp_path):
    """Residues in order, selenomethionine as M, water left out, the first model only."""
    names = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
    three = dict(zip("ARNDCQEGHILKMFPSTWYV", names.split(), strict=True))
    lines = []
    for chain, sequence in (("H", HEAVY), ("C", ANTIGEN)):
        for number, letter in enumerate(sequence, 1):
            kind, residue = ("HETATM", "MSE") if letter == "M" else ("ATOM  ", three[letter])
            lines += [f"{kind}{1:5d}  {atom:<3} {residue} {chain}{number:4d}    " for atom in ("N", "CA")]
    lines += ["HETATM    1  O   HOH C 900    ", "ENDMDL", "ATOM      1  CA  ALA C 901    "]
    (tmp_path / "PDBs").mkdir()
    (tmp_path / "PDBs" / "1ABC.pdb").write_text("\n".join(lines))
    row = ["1ABC_C_H", "KC1A", "KC1A", "AB/AG", "1E-08", "", "Lysozyme", "VHH", "298"]
    _, pairs, _ = imported("skempi2", write("t.csv", [SKEMPI2, row], ";"), "--sequences", tmp_path / "PDBs")
    assert [(pair["heavy"], pair["light"], pair["antigen"]) for pair in pairs] == [
        (HEAVY, None, mutated(ANTIGEN, "K1A"))
    ]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("a,b\n1,2\n", ("--from", "flab"), "is not a FLAb, folder binding table: it has no column 'heavy', 'light'"),
        ("#Pdb;x\n", ("--from", "skempi2"), "is not a SKEMPI 2.0 table"),
        ("heavy,light,light\n", ("--from", "flab"), "has 2 columns 'light'; rename all but the one meant."),
        ("heavy,light,KD (nM)\n", ("--from", "flab"), "Give --sequences: the antigen that all variants bind"),
        ("heavy,light,KD (nM)\n", ("--from", "flab", "--sequences", "gone"), "gone: there is no such file"),
        ("heavy,light,KD (nM)\n", ("--from", "nobody"), "is not one of 'skempi2', 'sabdab'"),
    ],
)  # fmt: skip
def test_a_mistake_says_what_to_give(error, write, tmp_path, content, arguments, said):
    """Wrong layout, column or file is one sentence and exit 2, and nothing is written."""
    text = error("import", *arguments, write("t.csv", content), "--out", tmp_path / "o.parquet")
    assert said in text
    assert not (tmp_path / "o.parquet").exists()


def test_a_table_of_which_nothing_can_be_used_names_the_list(error, write, tmp_path):
    """All rows rejected is an error that leads to the reasons."""
    table = write("t.csv", [["heavy", "light", "KD (nM)"], [HEAVY, LIGHT, "n.b."], [HEAVY, LIGHT, "=cmd()"]])
    said = error(
        "import", "--from", "flab", table, "--sequences", write("a.fasta", f">antigen\n{ANTIGEN}"),
        "--out", tmp_path / "o.parquet",
    )  # fmt: skip
    assert said == f"Error: None of the 2 rows of t.csv gives a pair; {tmp_path}/o.rejected.csv tells why.\n"
    rejected = read_listing(tmp_path / "o.rejected.csv")
    assert [row["value"] for row in rejected] == ["n.b.", "'=cmd()"], "formulas are disarmed"


def test_the_real_skempi_table(imported, shared_data, write):
    """All 7,085 rows: against the pairs that other hands made of it, where its chains could be put together again."""
    theirs = pq.read_table(shared_data / "skempi2_abag.parquet").to_pylist()
    wild = {row["pair_id"][:-3]: row for row in theirs if row["pair_id"].endswith(":WT")}
    # SKEMPI names antibodies HL (or LH) in these complexes, and antigens by one letter
    named = {
        name: name.split("_") for name in wild if set(name.split("_")[1]) == {"H", "L"} and len(name.split("_")[2]) == 1
    }
    fasta = "".join(
        f">{pdb}_H\n{wild[name]['heavy']}\n>{pdb}_L\n{wild[name]['light']}\n>{pdb}_{antigen}\n{wild[name]['antigen']}\n"
        for name, (pdb, _, antigen) in named.items()
    )
    said, pairs, _ = imported("skempi2", shared_data / "raw/skempi_v2.csv", "--sequences", write("c.fasta", fasta))
    assert said["rows"] == 7085
    assert len(named) > 15
    ours = {(p["id"], p["heavy"], p["light"], p["antigen"]) for p in pairs if p["sign"] == "="}
    expected = {
        (row["pair_id"].partition("#")[0], row["heavy"], row["light"], row["antigen"])
        for row in theirs
        if row["pair_id"].partition(":")[0] in named
    }
    assert ours == expected
    values = {(p["id"], round(p["pkd"], 6)) for p in pairs}
    assert all(
        (row["pair_id"].partition("#")[0], round(row["pkd"], 6)) in values
        for row in theirs
        if row["pair_id"].partition(":")[0] in named and ":WT" not in row["pair_id"]
    )


def test_the_real_alphabind_table_with_its_repeated_columns(imported, shared_data, write):
    """Of the two columns KD(M) the first is read, and the clones that did not bind are listed."""
    table = shared_data / "raw/alphabind_trastuzumab-scfv_bli_results.csv"
    cells = list(csv.reader(table.read_text().splitlines()))
    clones = {row[0].strip() for row in cells[1:]}
    fasta = "".join(f">{clone}_H\n{HEAVY}\n>{clone}_L\n{LIGHT}\n" for clone in clones if " " not in clone)
    _, pairs, rejected = imported("alphabind", table, "--sequences", write("c.fasta", f"{fasta}>antigen\n{ANTIGEN}\n"))
    expected = {row[0].strip(): -math.log10(float(row[3])) for row in cells[1:] if row[3][:1].isdigit()}
    assert {pair["id"]: pair["pkd"] for pair in pairs} == pytest.approx(expected)
    assert [row["value"] for row in rejected] == [row[3] for row in cells[1:] if not row[3][:1].isdigit()]
    assert len(pairs) + len(rejected) == len(cells) - 1


def test_what_is_at_the_limit_of_an_instrument_is_about_that():
    """`? 1.00E-04*` as BLI software writes it."""
    from pipeline.public.readings import read_cell

    assert (read_cell("? 1.00E-04*", "M").pkd, read_cell("? 1.00E-04*", "M").sign) == (4.0, "~")
    assert [read_cell(cell, "pkd").cell for cell in ("7.5", "> 9", "≤6")] == ["7.5", ">9.0", "<6.0"]


def test_a_small_table_begins_without_a_model(bindcache, write, tmp_path, monkeypatch):
    """The config that is printed names a table for both roles, and leaves encoders to the user of many pairs."""
    table = write("g6.csv", [["heavy", "light", "KD (nM)"], [HEAVY, LIGHT, "1.5"], [mutated(HEAVY, "E1D"), LIGHT, "2"]])
    fasta = write("antigen.fasta", f">antigen\n{ANTIGEN}\n")
    asked = ("import", "--from", "flab", table, "--sequences", fasta, "--out", tmp_path / "pairs.parquet")
    said = bindcache(*asked).stdout
    config = said.partition("In the config:\n")[2].partition("\nUnder")[0]
    (tmp_path / "mine.toml").write_text(config)
    assert bindcache("embed", "--config", tmp_path / "mine.toml").exit_code == 0
    assert load(tmp_path / "mine.toml").train.features == "standardise"
    assert next((tmp_path / "store").glob("blosum62-fp32-*")).is_dir()
    monkeypatch.setattr("pipeline.beginning.FEW_PAIRS", 2)
    assert "[embed]" not in bindcache(*asked).stdout
