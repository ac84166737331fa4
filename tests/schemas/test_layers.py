"""Layer schemas: a shard of another layer, version or column set is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from schemas.layers import DECISION, LAYERS, RAW, TRAIN, check_layer, signal_schema
from schemas.reasons import Drop, Outcome

SIGNAL = signal_schema("sharpness", 3, {"variance": pa.float32()})


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_accepts_itself_only(layer: str) -> None:
    check_layer(LAYERS[layer], layer, "file")
    for other in LAYERS:
        if other != layer:
            expected = f"file: expected layer {other} version [0-9]+, found {layer} version [0-9]+"
            with pytest.raises(ValueError, match=expected):
                check_layer(LAYERS[layer], other, "file")


def test_another_version_is_refused() -> None:
    newer = RAW.with_metadata({"janus_forge.layer": "raw", "janus_forge.version": "99"})
    with pytest.raises(ValueError, match="found raw version 99"):
        check_layer(newer, "raw", "file")


def test_changed_columns_are_refused() -> None:
    for changed in (DECISION.remove(2), DECISION.set(2, pa.field("reason", pa.int64()))):
        with pytest.raises(ValueError, match="columns differ"):
            check_layer(changed, "decision", "file")


def test_a_signal_is_a_layer_of_its_own_whatever_its_version() -> None:
    assert SIGNAL.metadata[b"janus_forge.version"] == b"3"
    check_layer(SIGNAL, "signals/sharpness", "file")
    for schema, layer in (
        (SIGNAL, "signals/entropy"),
        (RAW, "signals/sharpness"),
        (SIGNAL.remove(0), "signals/sharpness"),
    ):
        with pytest.raises(ValueError, match=f"file: expected layer {layer}, found"):
            check_layer(schema, layer, "file")
    with pytest.raises(ValueError, match=r"expected layer raw version [0-9]+, found signals/sharpness version 3"):
        check_layer(SIGNAL, "raw", "file")


def test_layers_share_the_row_identity() -> None:
    assert all(schema.field("uid").type == TRAIN.field("uid").type for schema in (*LAYERS.values(), SIGNAL))


def test_outcomes_and_drops_have_distinct_names_so_a_funnel_can_hold_both() -> None:
    assert not {o.value for o in Outcome} & {d.value for d in Drop}
    assert not Outcome.OK.transient
    assert Outcome.TIMEOUT.transient
