"""One docstring for three ranks: the words that differ are filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

WORDS = {
    1: {
        "rank": "1",
        "layout": "NCL",
        "last": "NLC",
        "x": "(N, C, L)",
        "w": "(K, C/groups, S)",
        "y": "(N, K, Q)",
        "pool_y": "(N, C, Q)",
        "wt": "(C, K/groups, S)",
        "i": "[q]",
        "at": "[q*stride + s*dilation - pad]",
        "taps": "s",
        "tap": "[s]",
        "sizes": "8",
        "kernel": "3",
        "half": "4",
    },
    2: {
        "rank": "2",
        "layout": "NCHW",
        "last": "NHWC",
        "x": "(N, C, H, W)",
        "w": "(K, C/groups, R, S)",
        "y": "(N, K, P, Q)",
        "pool_y": "(N, C, P, Q)",
        "wt": "(C, K/groups, R, S)",
        "i": "[p,q]",
        "at": "[p*stride + r*dilation - pad, q*stride + s*dilation - pad]",
        "taps": "r, s",
        "tap": "[r,s]",
        "sizes": "8, 8",
        "kernel": "3, 3",
        "half": "4, 4",
    },
    3: {
        "rank": "3",
        "layout": "NCDHW",
        "last": "NDHWC",
        "x": "(N, C, D, H, W)",
        "w": "(K, C/groups, T, R, S)",
        "y": "(N, K, Z, P, Q)",
        "pool_y": "(N, C, Z, P, Q)",
        "wt": "(C, K/groups, T, R, S)",
        "i": "[z,p,q]",
        "at": "[z*stride + t*dilation - pad, p*stride + r*dilation - pad, "
        "q*stride + s*dilation - pad]",
        "taps": "t, r, s",
        "tap": "[t,r,s]",
        "sizes": "8, 8, 8",
        "kernel": "3, 3, 3",
        "half": "4, 4, 4",
    },
}


def documented(template: str, rank: int) -> Callable[[F], F]:
    """Gives a function the template's docstring, `<word>` by `<word>`."""

    def attach(function: F) -> F:
        text = template
        for word, meaning in WORDS[rank].items():
            text = text.replace(f"<{word}>", meaning)
        function.__doc__ = text
        return function

    return attach
