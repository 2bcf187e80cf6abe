"""Diagrams of docs/concepts.md and docs/design.md, as SVG files.

python -m docs.pictures.diagrams
"""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "diagrams"
WIDTH, LINE = 760, 17
INK, FILL, ACCENT, SOFT = "#263238", "#e8eaf6", "#3f51b5", "#90a4ae"


class Drawing:
    """Shapes of a diagram in pixels, from the top left."""

    def __init__(self, title: str, height: int) -> None:
        self.height = height
        marker = 'id="arrow" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"'
        arrow = f'<marker {marker}><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker>'
        self._shapes = [
            f"<title>{escape(title)}</title>",
            f"<defs>{arrow}</defs>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, text: str = "", fill: str = FILL) -> None:
        """Draw a rectangle with centred lines of text, of which the first is bold."""
        self._shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{ACCENT}"/>'
        )
        lines = text.split("\n") if text else []
        top = y + height / 2 - (len(lines) - 1) * LINE / 2 + 5
        for number, line in enumerate(lines):
            self.text(x + width / 2, top + number * LINE, line, is_bold=number == 0)

    def text(self, x: float, y: float, line: str, is_bold: bool = False, anchor: str = "middle") -> None:
        """Write one line at a baseline."""
        weight = ' font-weight="bold"' if is_bold else ""
        self._shapes.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}"{weight}>{escape(line)}</text>')

    def line(self, points: Sequence[tuple[float, float]], colour: str = INK, has_arrow: bool = True) -> None:
        """Draw a line through points."""
        path = " ".join(f"{x},{y}" for x, y in points)
        end = ' marker-end="url(#arrow)"' if has_arrow else ""
        self._shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{end}/>')

    def circle(self, x: float, y: float, colour: str) -> None:
        """Draw a dot."""
        self._shapes.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>')

    def svg(self) -> str:
        """Return the file."""
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        font = f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n' + "\n".join(self._shapes) + "\n</svg>\n"


def study() -> Drawing:
    """Draw a study from its spec to its front."""
    drawing = Drawing("A study: a spec, trials, and the front", 236)
    drawing.box(10, 20, 170, 90, "spec\ndata, search space,\nobjectives, budget")
    drawing.box(250, 20, 190, 90, "trials\nthe sampler proposes a\nconfiguration for each")
    drawing.box(510, 20, 240, 90, fill="#fff")
    drawing.text(740, 36, "front", is_bold=True, anchor="end")
    for x, y in ((530, 80), (560, 62), (600, 48), (655, 42)):
        drawing.circle(x, y, ACCENT)
    for x, y in ((570, 94), (620, 80), (665, 96), (700, 72), (640, 66)):
        drawing.circle(x, y, SOFT)
    drawing.line([(530, 80), (560, 62), (600, 48), (655, 42)], ACCENT, has_arrow=False)
    drawing.line([(180, 65), (248, 65)])
    drawing.line([(440, 65), (508, 65)])
    drawing.box(
        10,
        170,
        740,
        46,
        "store\na folder or a bucket: results, checkpoints, logs; enough to read, resume and export",
    )
    for x in (95, 345, 630):
        drawing.line([(x, 110), (x, 168)])
    return drawing


def trial() -> Drawing:
    """Draw a trial and its replicates."""
    drawing = Drawing("A trial: one configuration, several seeds, one mean with an interval", 200)
    drawing.box(10, 60, 190, 80, "configuration\nloss.private.gamma = 2.5\nlatent.shared = 8")
    for seed, value in enumerate(("0.61", "0.64", "0.58")):
        y = 15 + 62 * seed
        drawing.box(280, y, 200, 46, f"replicate, seed {seed}\nseparation {value}")
        drawing.line([(200, 100), (278, y + 23)])
        drawing.line([(480, y + 23), (558, 100)])
    drawing.box(560, 60, 190, 80, "result\nseparation 0.61 ± 0.05\nmean, 90 % interval")
    return drawing


def lanes() -> Drawing:
    """Draw a stack with its lanes."""
    drawing = Drawing("A stack: many models as the rows of one matrix", 240)
    drawing.box(10, 15, 740, 210, fill="#fafafa")
    drawing.text(25, 38, "trainer: owns one GPU, or one CPU", is_bold=True, anchor="start")
    rows = ("trial 3, seed 0", "trial 3, seed 1", "trial 5, seed 0", "free: the next replicate")
    for lane, name in enumerate(rows):
        y = 55 + 38 * lane
        drawing.text(100, y + 19, f"lane {lane}", anchor="end")
        drawing.box(115, y, 200, 28, name, "#fff" if lane == 3 else FILL)
        for column in range(7):
            drawing.box(335 + 30 * column, y, 26, 28, fill="#fff" if lane == 3 else "#c5cae9")
    drawing.text(440, 216, "parameters")
    drawing.line([(550, 120), (590, 120)])
    drawing.box(592, 75, 145, 90, "one training step\neach layer is one\nbatched matmul")
    return drawing


def reports() -> Drawing:
    """Draw the reports of a trial along its training."""
    drawing = Drawing("Reports of a trial with 6,000 steps, 6 reports and halving from 600 steps", 205)
    left, scale = 40, 520 / 6000
    drawing.line([(left, 100), (left + 6000 * scale + 20, 100)])
    for step in (1000, 2000, 3000, 4000, 5000, 6000):
        x = left + step * scale
        drawing.circle(x, 100, ACCENT)
        drawing.text(x, 128, f"{step:,}")
    for step in (600, 1800, 5400):
        x = left + step * scale
        drawing.line([(x, 62), (x, 94)], SOFT)
        drawing.text(x, 52, f"{step:,}")
    drawing.text(left, 25, "rungs: trials outside the best third stop", is_bold=True, anchor="start")
    drawing.text(left, 160, "intermediate reports: losses and cheap metrics", is_bold=True, anchor="start")
    drawing.text(left, 184, "last report: all metrics that many models can share", is_bold=True, anchor="start")
    drawing.box(600, 60, 150, 80, "after training\nfront only: test\nclips, slow metrics")
    return drawing


def laws() -> Drawing:
    """Draw the three laws."""
    drawing = Drawing("The three laws", 150)
    for number, text in enumerate(
        (
            "1. configuration, seed → result\nneighbours, lanes, trainers\nand interruptions\nchange nothing",
            "2. the store alone is enough\nread, plot, export, resume\nwithout any machine\nthat trained",
            "3. test clips choose nothing\nvalidation clips choose;\ntest clips are evaluated\nonce, for the front",
        )
    ):
        drawing.box(10 + 250 * number, 15, 240, 120, text)
    return drawing


def way_of_a_trial() -> Drawing:
    """Draw the calls between the components that a trial passes."""
    names = (
        "Optuna\nsearch/sampler",
        "Ray Tune\nsearch/tune",
        "Trial\ntraining/client",
        "Trainer\ntraining/trainer",
        "Store",
    )
    calls = (
        (1, 0, "ask for a configuration"),
        (0, 1, "parameters"),
        (1, 2, "place the trial on a node"),
        (2, 3, "attach replicates"),
        (3, 3, "train all lanes until a budget"),
        (3, 4, "checkpoint"),
        (3, 3, "evaluate replicates"),
        (3, 2, "report"),
        (2, 1, "report"),
        (1, 4, "rows (the driver is the only writer of tables)"),
        (1, 1, "halving: stop or continue"),
        (1, 0, "values of a complete trial"),
    )
    drawing = Drawing("The way of a trial", 70 + 34 * len(calls))
    columns = [75 + 152 * number for number in range(len(names))]
    for x, name in zip(columns, names, strict=True):
        drawing.line([(x, 52), (x, drawing.height - 8)], SOFT, has_arrow=False)
        drawing.box(x - 65, 6, 130, 46, name)
    for number, (source, target, text) in enumerate(calls):
        y, start, end = 84 + 34 * number, columns[source], columns[target]
        if source == target:
            drawing.line([(start, y - 8), (start + 18, y - 8), (start + 18, y + 6), (start + 3, y + 6)])
            drawing.text(start + 26, y + 3, text, anchor="start")
        else:
            drawing.line([(start, y), (end + (-2 if end > start else 2), y)])
            drawing.text((start + end) / 2, y - 5, text)
    return drawing


DIAGRAMS: tuple[Callable[[], Drawing], ...] = (study, trial, lanes, reports, laws, way_of_a_trial)


def main() -> None:
    """Write all diagrams."""
    FOLDER.mkdir(exist_ok=True)
    for diagram in DIAGRAMS:
        name = diagram.__name__.replace("_", "-")
        (FOLDER / f"{name}.svg").write_text(diagram().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
