"""What recipes change: differences paired over seeds, worked out by hand, with t(0.975, 2) = 4.3027."""

from synthetic import cell, differences, few_replicates, metrics, table, under, write_cell, write_images  # noqa: F401

from bgad.report.collect import collect
from bgad.report.tables.recipes import recipes_section

HEADING = "What each recipe changes"
# Image AUROC of seeds 0, 1, 2. Paired, no-focal - paper is -1, -2, -3 in carpet and -3, -4, -2 in tile.
LEVELS = {
    "paper": {"carpet": (90.0, 92.0, 94.0), "tile": (80.0, 70.0, 75.0)},
    "no-focal": {"carpet": (89.0, 90.0, 91.0), "tile": (77.0, 66.0, 73.0)},
    "beta-0.1": {"carpet": (90.0, 92.0, 94.0), "tile": (80.5, 70.5, 75.5)},
}


def measured(root, levels, split_sha256=None, **of):
    """Cells with the image AUROC of ``levels`` (recipe -> category -> seeds); a recipe's splits have ``split_sha256``."""
    cells = []
    for recipe, categories in levels.items():
        for category, images in categories.items():
            for seed, image in enumerate(images):
                one = cell(category, seed=seed, recipe=recipe, **of)
                changed = {"split_sha256": split_sha256} if split_sha256 else {}
                write_cell(root, one, metrics((image, 100.0)), **changed)
                write_images(root, one)
                cells.append(one)
    return cells


def test_each_recipe_is_held_against_the_published_one(tmp_path):
    """Seeds' means of no-focal - paper are -2, -3, -2.5: -2.5 with sd 0.5, half 4.3027 x 0.5 / sqrt(3) = 1.2421; of beta-0.1
    they are 0.25 each. A category's half is 4.3027 / sqrt(3) = 2.4841 for sd 1."""
    levels = {recipe: LEVELS[recipe] for recipe in ("no-focal", "paper", "beta-0.1")}  # paper is not the first
    lines, records = table(tmp_path, measured(tmp_path, levels))
    rows = differences(records, "recipes")
    assert [(*key, *row[:2]) for key, row in rows.items()] == [
        ("no-focal - paper", "seen", "10", "mean over 2 categories", "3", "-2.50 [-3.74, -1.26] hurts"),
        ("beta-0.1 - paper", "seen", "10", "mean over 2 categories", "3", "+0.25 [+0.25, +0.25]"),
        ("no-focal - paper", "seen", "10", "carpet", "3", "-2.00 [-4.48, +0.48] no difference seen"),
        ("no-focal - paper", "seen", "10", "tile", "3", "-3.00 [-5.48, -0.52] hurts"),
        ("beta-0.1 - paper", "seen", "10", "carpet", "3", "+0.00 [+0.00, +0.00]"),
        ("beta-0.1 - paper", "seen", "10", "tile", "3", "+0.50 [+0.50, +0.50]"),
    ]
    section = under(lines, HEADING)[""]
    words = "helps in 0, hurts in 1, no difference seen in 0 of the 1 mean differences"
    assert f"- **no-focal - paper**: {words}." in section
    assert " 18 such intervals" in section and "effect of the draw" not in section
    columns = ("recipe", "against", "method", "k", "row", "n", "difference", "difference_low", "verdict_difference")
    of = [[r[c] for c in columns] for r in records if r["section"] == "recipes" and r["metric"] == "image_auroc"]
    assert of[0] == ["no-focal", "paper", "bgad", "10", "mean over 2 categories", "3", "-2.50", "-3.74", "hurts"]
    # Four metrics in the CSV, of two means and four categories.
    assert len([r for r in records if r["section"] == "recipes"]) == 4 * 6


def test_without_the_published_recipe_the_first_is_the_reference(tmp_path):
    levels = {recipe: LEVELS[recipe] for recipe in ("no-focal", "beta-0.1")}
    rows = differences(table(tmp_path, measured(tmp_path, levels))[1], "recipes")
    assert {key[0] for key in rows} == {"beta-0.1 - no-focal"}
    # tile 3.5, 4.5, 2.5 and carpet 1, 2, 3: seeds' means 2.25, 3.25, 2.75
    key = ("beta-0.1 - no-focal", "seen", "10", "mean over 2 categories")
    assert rows[key][1] == "+2.75 [+1.51, +3.99] helps"


def test_only_cells_alike_but_for_the_recipe_are_paired(tmp_path):
    """k 0 of no-focal has no counterpart, nor has seed 2 or tile; nf is not bgad-wo."""
    paper = {"paper": {"carpet": (90.0, 92.0)}}
    cells = measured(tmp_path, paper) + measured(tmp_path, paper, k=0, method="nf")
    cells += measured(tmp_path, {"no-focal": LEVELS["no-focal"]}) + measured(tmp_path, {"no-focal": LEVELS["no-focal"]}, k=0)
    rows = differences(table(tmp_path, cells)[1], "recipes")
    # -1 and -2: -1.5 with half 12.7062 x 0.5
    assert {key: row[:2] for key, row in rows.items()} == {
        ("no-focal - paper", "seen", "10", "carpet"): ["2", "-1.50 [-7.85, +4.85] no difference seen"]
    }


def test_a_missing_cell_takes_its_category_out_of_the_mean(tmp_path):
    cells = measured(tmp_path, {recipe: LEVELS[recipe] for recipe in ("paper", "no-focal")})
    (tmp_path / cells[1].folder / "metrics.json").unlink()  # carpet, seed 1, of paper
    rows = {key[3]: row[:2] for key, row in differences(table(tmp_path, cells)[1], "recipes").items()}
    assert rows["mean over the 1 complete of 2 categories: tile"] == ["3", "-3.00 [-5.48, -0.52] hurts"]
    assert rows["carpet"] == ["2 of 3", "-2.00 [-14.71, +10.71] no difference seen"]


def test_other_draws_are_said_with_how_many(tmp_path):
    """carpet is drawn alike, tile, of which there are two seeds, is not."""
    cells = measured(tmp_path, {"paper": LEVELS["paper"], "corrected": {"carpet": LEVELS["paper"]["carpet"]}})
    cells += measured(tmp_path, {"corrected": {"tile": LEVELS["paper"]["tile"][:2]}}, split_sha256="e" * 64)
    lines, _ = recipes_section(collect(cells, tmp_path))
    (text,) = (line for line in lines if "measured pairs" in line)
    assert "In 2 of 5 measured pairs, `corrected` and `paper` draw different" in text


def test_one_recipe_has_no_such_section(tmp_path):
    lines, records = table(tmp_path, measured(tmp_path, {"paper": LEVELS["paper"]}))
    assert not any(HEADING in line for line in lines)
    assert not [r for r in records if r["section"] == "recipes"]


def test_recipes_without_like_cells_have_nothing_to_compare(tmp_path):
    levels = {"paper": {"carpet": (90.0,)}, "no-focal": {"tile": (90.0,)}}
    lines, records = recipes_section(collect(measured(tmp_path, levels), tmp_path))
    (sentence,) = lines[2:]
    assert "Nothing to compare" in sentence and "`paper`" in sentence and not records


def test_nothing_measured_is_said(tmp_path):
    lines, records = recipes_section(collect([cell(recipe="paper"), cell(recipe="corrected")], tmp_path))
    (sentence,) = lines[2:]
    assert "No pair of cells is measured" in sentence and not records
