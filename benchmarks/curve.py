"""A curve as a picture: few points, a logarithmic scale from left to right, SVG by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 640, 320, 70, 50


def svg(title: str, unit: str, across: Sequence[int], up: Sequence[float]) -> str:
    """Draw the points (*across*, *up*), the scale of the second from 0."""
    highest = max(up) * 1.25
    first, last = math.log10(across[0]), math.log10(across[-1])
    span = (last - first) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        left = _LEFT + (math.log10(x) - first) / span * (_WIDTH - _LEFT - 50)
        return left, _HEIGHT - _BOTTOM - y / highest * (_HEIGHT - _BOTTOM - 40)

    points = [place(x, y) for x, y in zip(across, up, strict=True)]
    drawn = [_text(_WIDTH / 2, 20, title, "middle"), _text(8, 42, unit, "start")]
    for x, y, (left, top) in zip(across, up, points, strict=True):
        drawn.append(f'<circle cx="{left:.0f}" cy="{top:.0f}" r="4"/>')
        drawn += [_text(left, top - 10, f"{y:.0f}", "middle"), _text(left, _HEIGHT - 28, f"{x:,}", "middle")]
    axis = f"M{_LEFT},40 V{_HEIGHT - _BOTTOM} H{_WIDTH - 30}"
    curve = " ".join(f"{left:.0f},{top:.0f}" for left, top in points)
    drawn += [f'<path d="{axis}" fill="none" stroke="#888"/>', _text(_WIDTH / 2, _HEIGHT - 8, "files", "middle")]
    drawn.append(f'<polyline points="{curve}" fill="none" stroke="#0052cc" stroke-width="2"/>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *drawn, "</svg>", ""])


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'
