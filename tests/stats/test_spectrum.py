"""Singular values against NumPy's own, whatever the shape, the type and the strides."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
import pytest
import torch

from sdviewer.errors import Cancelled
from sdviewer.stats import spectrum as module
from sdviewer.stats.spectrum import Cost, Spectrum, spectrum
from tests.stats.made_tensors import odd_tensors, values_of
from tests.stats.storages import Endless, array, lay

ODD = odd_tensors()


def expected(values: np.ndarray) -> np.ndarray:
    """The singular values of a tensor as a matrix, its first dimension of more than one index along the rows."""
    first = next((size for size in values.shape if size > 1), 1)
    found: np.ndarray = np.linalg.svd(values.reshape(first, -1), compute_uv=False)
    return found


def low_rank(rows: int, columns: int, rank: int, noise: float) -> np.ndarray:
    random = np.random.default_rng(3)
    product = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))
    found: np.ndarray = (product + noise * random.standard_normal((rows, columns))).astype(np.float32)
    return found


def found_values(found: Spectrum) -> np.ndarray:
    assert found.values is not None
    return found.values


class TestExact:
    @pytest.mark.parametrize("name", ODD)
    def test_that_all_singular_values_are_those_of_the_tensor_as_a_matrix(self, name: str) -> None:
        found, true = spectrum(*lay(ODD[name]), "exact"), expected(values_of(ODD[name]))
        assert (found.kind, found.full, found.known) == ("exact", true.size, true.size)
        np.testing.assert_allclose(found_values(found), true, rtol=1e-10, atol=true[0] * module.FLOOR)
        assert found.spectral == pytest.approx(true[0], rel=1e-12)
        assert found.frobenius == pytest.approx(np.linalg.norm(true), rel=1e-12)
        assert found.stable_rank == pytest.approx((true**2).sum() / true[0] ** 2, rel=1e-12)

    def test_that_a_tensor_of_more_dimensions_is_told_as_which_matrix_it_was_taken(self) -> None:
        found = spectrum(*lay(ODD["kernels"]))
        assert (found.rows, found.columns) == (8, 60)

    def test_that_the_rank_for_90_percent_is_the_first_that_holds_them(self) -> None:
        values = np.array([3.0, 2.0, 1.0, 1.0, 1.0])
        found = spectrum(*array(np.diag(values)))
        assert found.rank90 == 4  # 15 of 16; the first three have 14 of 16, which is 87.5 %
        assert spectrum(*array(np.diag([3.0, 1.0]))).rank90 == 1  # 9 of 10 exactly

    def test_that_only_what_float64_resolves_is_told_from_zero(self) -> None:
        found = spectrum(*array(low_rank(60, 40, 5, 0.0).astype(np.float64)))
        assert (found_values(found) > found.floor).sum() == 5

    @pytest.mark.parametrize("scale", [1e-30, 1e30, 1e-300, 1e200])
    def test_that_neither_tiny_nor_huge_values_vanish_or_overflow(self, scale: float) -> None:
        values = np.random.default_rng(1).standard_normal((30, 20)) * scale
        for how in ("exact", "randomised"):
            found = spectrum(*array(values), how)  # type: ignore[arg-type]
            np.testing.assert_allclose(found_values(found), expected(values), rtol=1e-9)

    def test_that_a_zero_matrix_has_no_stable_rank(self) -> None:
        found = spectrum(*array(np.zeros((4, 6))))
        assert (found.kind, found.spectral, found.stable_rank, found.rank90) == ("exact", 0.0, None, 0)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_that_a_matrix_with_a_value_that_is_no_number_has_none(self, bad: float) -> None:
        values = np.ones((5, 7), np.float32)
        values[3, 2] = bad
        found = spectrum(*array(values))
        assert found.kind == "none"
        assert "NaN" in found.why

    def test_that_an_empty_tensor_has_none(self) -> None:
        assert spectrum(*array(np.zeros((0, 7)))).why == "it is empty"

    def test_that_pieces_make_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "PIECE", 64)
        monkeypatch.setattr(module, "PANEL", 3)
        for tensor in (ODD["kernels"], ODD["tall"], ODD["wide"], ODD["channels last"], ODD["transposed"]):
            found, true = spectrum(*lay(tensor), "exact"), expected(values_of(tensor))
            np.testing.assert_allclose(found_values(found), true, rtol=1e-10)

    def test_that_the_curve_of_many_values_keeps_the_first_and_the_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_POINTS", 240)
        found = spectrum(*array(np.diag(np.arange(300, 0, -1.0))), "exact")
        assert found.index is not None
        assert found.known == 300
        assert 200 < len(found.index) <= 240
        assert (found.index[0], found.index[-1]) == (0, 299)
        np.testing.assert_allclose(found_values(found), 300.0 - found.index)


class TestRandomised:
    @pytest.mark.parametrize("turned", [False, True])
    def test_that_what_stands_out_is_right_and_the_rest_as_near_as_it_says(self, turned: bool) -> None:
        values = low_rank(500, 400, 12, 0.2)
        true = expected(values)
        found = spectrum(*array(np.ascontiguousarray(values.T) if turned else values), "randomised")
        assert (found.kind, found.known) == ("randomised", 256)
        np.testing.assert_allclose(found_values(found)[:12], true[:12], rtol=1e-5)
        np.testing.assert_allclose(found_values(found), true[:256], rtol=found.error)
        assert (found_values(found) <= true[:256] * (1 + 1e-5)).all(), "a subspace cannot hold more"
        assert found.frobenius == pytest.approx(np.linalg.norm(true), rel=1e-12)

    def test_that_a_rank_beyond_the_known_ones_is_not_made_up(self) -> None:
        values = np.random.default_rng(2).standard_normal((700, 700)).astype(np.float32)
        assert spectrum(*array(values), "randomised").rank90 is None

    def test_that_a_matrix_of_low_rank_has_no_more_values_than_that(self) -> None:
        values = low_rank(400, 350, 7, 0.0)
        found = spectrum(*array(values), "randomised")
        assert (found_values(found) > found.floor).sum() == 7
        np.testing.assert_allclose(found_values(found)[:7], expected(values)[:7], rtol=1e-5)
        assert spectrum(*array(np.zeros((400, 350))), "randomised").spectral == 0

    def test_that_pure_noise_is_near_in_its_first_values(self) -> None:
        values = np.random.default_rng(2).standard_normal((700, 600)).astype(np.float32)
        found, true = spectrum(*array(values), "randomised"), expected(values)
        np.testing.assert_allclose(found_values(found)[:40], true[:40], rtol=0.02)

    @pytest.mark.parametrize(("tiny", "dtype"), [(1e-25, np.float32), (1e-300, np.float64)])
    def test_that_rows_as_good_as_zero_at_its_beginning_spoil_nothing(
        self, tiny: float, dtype: type, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PIECE", 300 * 400)
        values = low_rank(1200, 300, 20, 0.0).astype(dtype)
        values[:600] *= tiny
        true, found = expected(values), spectrum(*array(values), "randomised")
        np.testing.assert_allclose(found_values(found)[:10], true[:10], rtol=1e-3)

    def test_that_it_is_the_same_every_time(self) -> None:
        values = array(low_rank(400, 300, 20, 1.0))
        first, second = (found_values(spectrum(*values, "randomised")) for _ in range(2))
        assert np.array_equal(first, second)

    def test_that_complex_values_work_too(self) -> None:
        random = np.random.default_rng(2)
        values = random.standard_normal((300, 290)) + 1j * random.standard_normal((300, 290))
        true = expected(values)
        found = spectrum(*array(values), "randomised")
        np.testing.assert_allclose(found_values(found), true[:256], rtol=found.error)


class TestCost:
    def test_that_only_what_is_quick_is_done_without_being_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "speeds", lambda: (1e10, 4e9))
        small, middle, large = Cost.of(768, 3072), Cost.of(4096, 4096), Cost.of(128_256, 16_384)
        assert small.exact < module.AT_ONCE
        assert middle.exact > module.AT_ONCE
        assert middle.at_once
        assert not large.at_once

    def test_that_a_matrix_too_dear_is_only_estimated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "speeds", lambda: (1e3, 1e3))
        found = spectrum(*array(np.eye(300)))
        assert (found.kind, found.why) == ("none", "")
        assert found.seconds[0] > 1000
        assert spectrum(*array(np.eye(300)), "exact").kind == "exact", "asked for, it is done"

    def test_that_a_gram_matrix_beyond_its_limit_is_not_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LARGEST_SIDE", 10)
        found = spectrum(*array(np.eye(300)), "exact")
        assert found.kind == "none"
        assert found.too_large

    def test_that_a_tensor_larger_than_memory_is_estimated_without_reading_it(self) -> None:
        source = Endless(4 * 70_000 * 80_000)
        _, layout = array(np.zeros((2, 2), np.float32))
        layout = type(layout)("float32", (70_000, 80_000), (80_000, 1), 0)
        found = spectrum(source, layout)
        assert (found.kind, found.too_large, source.largest_read) == ("none", True, 0)


class TestCancel:
    @pytest.mark.parametrize("how", ["exact", "randomised"])
    def test_that_it_stops_when_it_is_told_to(self, how: str) -> None:
        calls = []

        def stop(done: int, total: int) -> None:
            calls.append(done)
            raise Cancelled

        with pytest.raises(Cancelled):
            spectrum(*lay(torch.randn(300, 290)), how, progress=stop)  # type: ignore[arg-type]
        assert len(calls) == 1

    def test_that_the_search_for_eigenvalues_can_be_left(self) -> None:
        started, go_on = threading.Event(), threading.Event()

        def call() -> int:
            started.set()
            return int(go_on.wait(20))

        def stop(done: int, total: int) -> None:
            if started.is_set():
                raise Cancelled

        with pytest.raises(Cancelled):
            module._patiently(call, 0.1, stop)
        go_on.set()
        assert module._patiently(lambda: 3, 0.1, lambda done, total: None) == 3
        assert sys.exc_info() == (None, None, None)
