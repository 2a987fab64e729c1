"""Write every generated page beside the others."""

from pathlib import Path

from .claims import claims_page, judged_again
from .gallery import gallery_page
from .models import models_page
from .observables import observables_page
from .paper_claims import paper_claims_page
from .performance import performance_page, performance_plot
from .questions import questions_page
from .statements import proofs_page
from .tables import records_page, tables_page

PAGES = {
    "models.md": models_page,
    "gallery.md": gallery_page,
    "questions.md": questions_page,
    "observables.md": observables_page,
    "tables.md": tables_page,
    "monitor-records.md": records_page,
    "proofs.md": proofs_page,
    "claims.md": claims_page,
    "paper-claims.md": paper_claims_page,
    "reproduction.json": judged_again,
    "performance.md": performance_page,
}

if __name__ == "__main__":
    docs = Path(__file__).parents[1]
    for name, page in PAGES.items():
        (docs / name).write_text(page(), encoding="utf-8")
    performance_plot(docs / "images" / "performance.png")
