"""A problem as the vendor's library would have it: the baseline `library`. Imports torch; the reference's process runs it, never a candidate's.

Two forms are known. A problem may say it: a class `ModelLibrary` with the constructor, state and forward of `Model`, in which one library operator takes the place of
what `Model` spells out. Where it does not, and cuDNN convolves on a GPU, it is the model itself with the algorithms that cuDNN finds fastest for these sizes by trying.
Matrix products, and operators that PyTorch hands to a library as they are, have the library in `eager` already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

CLASS = "ModelLibrary"


class NoLibraryFormError(Exception):
    """There is no library operator that `eager` does not call already, or the one that the problem names cannot be used."""


def library_form(
    module: Any, model: Any, init: Sequence[Any], device: str, operators: Collection[str]
) -> Callable[..., Any]:  # Any: the problem's own
    """Return what computes the same with a vendor's operator; it shares the model's parameters and buffers.

    Args:
        module: The problem's module.
        model: Its `Model`.
        init: Arguments of the constructor.
        device: Where it runs.
        operators: Names of the operators that a call dispatches.

    Raises:
        NoLibraryFormError: There is none.
    """
    if hasattr(module, CLASS):
        try:
            made = getattr(module, CLASS)(*init).to(device)
            made.load_state_dict(model.state_dict(keep_vars=True), strict=True, assign=True)
        except Exception as err:  # the problem's code may raise anything
            raise NoLibraryFormError(f"{CLASS} cannot be made like Model: {type(err).__name__}: {err}"[:600]) from err
        return made.train(model.training)  # type: ignore[no-any-return]  # an nn.Module is callable
    if device != "cpu" and any("convolution" in name for name in operators):
        return _with_tuned_cudnn(model)
    raise NoLibraryFormError("eager calls the library already")


def _with_tuned_cudnn(model: Callable[..., Any]) -> Callable[..., Any]:  # Any: the problem's own
    def call(*arguments: Any) -> Any:  # Any: the problem's own
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True
        try:
            return model(*arguments)
        finally:
            torch.backends.cudnn.benchmark = before

    return call
