"""RandAugment for known anomalies: 3 of 10 augmentations, drawn without replacement, on an image and its mask together.

The ten and their probabilities are the released code's (docs/protocol.md, RandAugment). It used the albumentations of 2022;
where defaults have changed since, the parameters below spell out the old ones, with a comment.
"""

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np

DRAWN = 3


def rand_augment(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An augmented copy of ``image`` (H, W, 3) uint8 and of its ``mask`` (H, W) bool, both (H', W').

    Rotation by 90 degrees and transposition turn (H, W) into (W, H). The mask follows every geometric augmentation with nearest
    interpolation, and is empty if the defect leaves the image. The inputs stay unchanged.

    All callers in a process share the ten transforms, which hold the generator while they run: not thread-safe.
    """
    ten = augmentations()
    drawn = rng.choice(len(ten), DRAWN, replace=False)
    # One stream for all three. Compose(seed=...) would give each transform its own stream with the same seed, so that all
    # decide by the same draw: an augmentation with p 0.2 would never occur without one with p 0.3.
    python_rng = random.Random(int(rng.integers(2**63)))
    data = {"image": image.copy(), "mask": mask.astype(np.uint8)}
    for number in drawn:
        ten[number].set_random_state(rng, python_rng)
        data = ten[number](**data)
    return data["image"], data["mask"] > 0


@functools.cache
def augmentations() -> tuple[Callable[..., dict[str, Any]], ...]:
    """The ten augmentations in the order of docs/protocol.md, each called with ``image`` and ``mask``; built on first use.

    Within OneOf, ``p`` is the member's weight. Values that the released code does not give are the defaults of 2022.
    """
    # Takes seconds to import, and only CutPaste needs it.
    import albumentations as A
    import cv2

    # The default mirrored at the border; since 2.0 it is black, which would add black wedges to the defects.
    mirrored = {"border_mode": cv2.BORDER_REFLECT_101}
    return (
        A.RandomRotate90(p=0.5),  # now 1 by default
        A.OneOf(  # was Flip: about either axis, or both
            [
                A.HorizontalFlip(p=1),
                A.VerticalFlip(p=1),
                A.Sequential([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=1),
            ],
            p=0.5,
        ),
        A.Transpose(p=0.5),
        # The old shift_limit is gone: it was 0.05 of a pixel and rounded to none.
        A.OpticalDistortion(distort_limit=(-1.0, 1.0), p=1, **mirrored),
        A.OneOf(
            [
                # was IAAAdditiveGaussianNoise: one noise for the three channels
                A.GaussNoise(std_range=(0.01, 0.05), per_channel=False, p=0.5),
                # was var_limit 10 to 50 on the scale 0 to 255; the default is now sixteen times as strong
                A.GaussNoise(std_range=(10**0.5 / 255, 50**0.5 / 255), p=0.5),
            ],
            p=0.2,
        ),
        A.OneOf(
            [
                A.MotionBlur(blur_limit=(3, 7), p=0.2),
                A.MedianBlur(blur_limit=(3, 3), p=0.1),
                A.Blur(blur_limit=(3, 3), p=0.1),
            ],
            p=0.2,
        ),
        A.Affine(  # was ShiftScaleRotate, shift 0.0625, scale 0.2, rotate 45: one scale for both axes, a shift for each
            translate_percent={"x": (-0.0625, 0.0625), "y": (-0.0625, 0.0625)},
            scale=(0.8, 1.2),
            keep_ratio=True,
            rotate=(-45, 45),
            p=0.2,
            **mirrored,
        ),
        A.OneOf(
            [
                A.OpticalDistortion(distort_limit=(-0.05, 0.05), p=0.3, **mirrored),
                A.GridDistortion(num_steps=5, distort_limit=(-0.3, 0.3), normalized=False, p=0.1, **mirrored),
                _piecewise_affine(p=0.3),  # was IAAPiecewiseAffine
            ],
            p=0.2,
        ),
        A.OneOf(
            [
                A.CLAHE(clip_limit=(1, 2), p=0.5),
                A.Sharpen(alpha=(0.2, 0.5), lightness=(0.5, 1.0), p=0.5),  # was IAASharpen
                A.Emboss(alpha=(0.2, 0.5), strength=(0.2, 0.7), p=0.5),  # was IAAEmboss
                A.RandomBrightnessContrast(brightness_limit=(-0.2, 0.2), contrast_limit=(-0.2, 0.2), p=0.5),
            ],
            p=0.3,
        ),
        A.HueSaturationValue(hue_shift_limit=(-20, 20), sat_shift_limit=(-30, 30), val_shift_limit=(-20, 20), p=0.3),
    )


def piecewise_affine_maps(
    height: int, width: int, scale: float, rng: np.random.Generator, points: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """The source of each pixel: ``(map_x, map_y)``, (H, W) float32 each, in pixels.

    A grid of ``points`` x ``points`` over the image moves by normal noise with standard deviation ``scale`` (a fraction of the
    side), not beyond the border; between the grid points the move is interpolated linearly.
    """
    # PiecewiseAffine of 2.0.8 averages the positions of the grid points instead of their moves, which shrinks the image to
    # clumps even without noise, and it works pixel by pixel in Python: over a second for 256 x 256 pixels.
    rows, columns = _hats(height, points), _hats(width, points)
    noise = rng.normal(0, scale, (2, points, points))
    at_y = np.clip(np.linspace(0, 1, points)[:, None] + noise[0], 0, 1) * (height - 1)
    at_x = np.clip(np.linspace(0, 1, points)[None, :] + noise[1], 0, 1) * (width - 1)
    return (rows @ at_x @ columns.T).astype(np.float32), (rows @ at_y @ columns.T).astype(np.float32)


def _hats(size: int, points: int) -> np.ndarray:
    """Weights of linear interpolation from ``points`` to ``size`` positions with the same ends: (size, points)."""
    return np.clip(1 - abs(np.linspace(0, points - 1, size)[:, None] - np.arange(points)), 0, None)


def _piecewise_affine(p: float) -> Callable[..., dict[str, Any]]:
    """The augmentation around ``piecewise_affine_maps``, with the old scale of 0.03 to 0.05."""
    import cv2
    from albumentations.augmentations.geometric.distortion import BaseDistortion

    class PiecewiseAffine(BaseDistortion):
        def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
            scale = self.py_random.uniform(0.03, 0.05)
            height, width = params["shape"][:2]
            map_x, map_y = piecewise_affine_maps(height, width, scale, self.random_generator)
            return {"map_x": map_x, "map_y": map_y}

    return PiecewiseAffine(
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        keypoint_remapping_method="mask",
        border_mode=cv2.BORDER_REFLECT_101,
        fill=0,
        fill_mask=0,
        p=p,
    )
