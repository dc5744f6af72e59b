"""Steps: the models that answer the ensemble alone, whose neighbours in a batch are others' requests."""

from footfall.contract import COMPOSING_MODELS, ENSEMBLE


def refusal(model: bytes) -> str | None:
    """Why nobody outside may ask the model for an inference; None where anybody may."""
    name = model.decode(errors="replace")
    return f"{name} answers only the ensemble: ask {ENSEMBLE}" if name in COMPOSING_MODELS else None
