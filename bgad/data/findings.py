"""What was odd in a category's folder while its index was built, as the index's notes: one sentence each."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bgad.config.names import shown
from bgad.data.files import MASKS, named
from bgad.errors import DataError

TOO_MUCH = 0.9  # share of an image that no defect covers: the mask is probably inverted


@dataclass(frozen=True)
class Facts:
    """Of one image: the ``share`` that its mask marks (None without a mask), and whether that is of another size than the image
    or ``lossy``; and whether the image has 16 bits a channel."""

    share: float | None
    resized: bool
    lossy: bool
    deep: bool


@dataclass
class Findings:
    """Collects what is odd, in ``folder``, by the paths of the images."""

    folder: Path
    bit_depth: int | None
    missing: list[Path] = field(default_factory=list)  # images without a mask
    near: list[str] = field(default_factory=list)  # files that could be meant as theirs
    empty: list[str] = field(default_factory=list)
    facts: dict[str, Facts] = field(default_factory=dict)

    def add(self, path: str, facts: Facts) -> None:
        self.facts[path] = facts

    def without_mask(self, image: Path, near: list[str]) -> None:
        self.missing.append(image)
        self.near += [name for name in near if name not in self.near]

    def no_mask(self) -> DataError:
        """That the first image without a mask needs one."""
        image = self.missing[0]
        there = f" there are {named(self.near)}, so rename them;" if self.near else ""
        return DataError(
            f"{shown(image)}: its mask {shown(image.stem)}_mask.png (or .jpg and so on) is missing in "
            f"{shown(self.folder / MASKS / image.parent.name)};{there} add it, or remove {MASKS} to use the category without "
            "masks (k0 and image AUROC only)."
        )

    def notes(self, has_masks: bool) -> list[str]:
        highest = 65535 if self.bit_depth is None else 2**self.bit_depth - 1
        unsure = "; set bit_depth if the camera uses fewer bits" if self.bit_depth is None else ""
        notes = self._of("deep", "image has|images have", f"16 bits a channel, of which {highest} becomes white{unsure}")
        without = "for image AUROC only, never known in training" if has_masks else "so there are no pixel metrics"
        missing = [path.relative_to(self.folder).as_posix() for path in self.missing]
        near = f"; {MASKS} also has {named(self.near)}" if self.near else ""
        notes += _counted(missing, "anomalous image has|anomalous images have", f"no mask: {without}{near}")
        notes += _counted(self.empty, "anomalous image has|anomalous images have", f"an empty mask: {without}")
        notes += self._of("resized", "mask has|masks have", "another size than the image: resized with nearest")
        share = self._share([path for path, facts in self.facts.items() if facts.lossy])
        notes += self._of(
            "lossy", "mask is|masks are", f"JPEG or WebP: a defect is what is above half of the maximum, {share} of an image"
        )
        full = [path for path, facts in self.facts.items() if facts.share is not None and facts.share > TOO_MUCH]
        share = self._share(full)
        notes += _counted(full, "mask marks|masks mark", f"{share} of the image: inverted? 0 has to mean normal")
        return notes

    def _of(self, fact: str, what: str, are: str) -> list[str]:
        return _counted([path for path, facts in self.facts.items() if getattr(facts, fact)], what, are)

    def _share(self, paths: list[str]) -> str:
        shares = [facts.share for path in paths if (facts := self.facts[path]).share is not None]
        return f"{100 * median(shares):.1f} % (median)" if shares else ""


def _counted(paths: list[str], what: str, are: str) -> list[str]:
    one, several = what.split("|")
    return [f"{len(paths)} {one if len(paths) == 1 else several} {are} ({named(paths)})."] if paths else []
