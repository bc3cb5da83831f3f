"""What an optimizer keeps for each parameter, and the parameter it keeps it for.

Names: torch.optim's Adam (exp_avg, exp_avg_sq, max_exp_avg_sq), SGD (momentum_buffer), RMSprop (square_avg, grad_avg),
Adagrad (sum), Adadelta (acc_delta), Adafactor (row_var, col_var, variance; in transformers exp_avg_sq_row and
exp_avg_sq_col).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from sdviewer.core import text
from sdviewer.core.checkpoint import Checkpoint, TensorInfo
from sdviewer.core.optimizer_names import parameter_names
from sdviewer.core.paths import TypedStep
from sdviewer.core.roles.role import Related, TensorRole, TensorRoleKind

MOMENTS: Mapping[str, str] = {
    "exp_avg": "first moment",
    "exp_avg_sq": "second moment",
    "max_exp_avg_sq": "largest second moment",
    "exp_inf": "largest gradient",
    "momentum_buffer": "momentum",
    "square_avg": "mean square of the gradient",
    "grad_avg": "mean gradient",
    "acc_delta": "mean square of the change",
    "sum": "sum of squares of the gradient",
    "row_var": "second moment by rows",
    "col_var": "second moment by columns",
    "variance": "second moment",
    "exp_avg_sq_row": "second moment by rows",
    "exp_avg_sq_col": "second moment by columns",
    "step": "steps taken",
}
_WHOLE = frozenset(("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg"))
"""Those that have the parameter's shape; of the others only the name is known."""


class Moments:
    """The moments of all optimizers of a checkpoint, and the parameters beside them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def of(self, tensor: int) -> TensorRole | None:
        """What a tensor of an optimizer's state is, None where it is none."""
        found = self._entry(self._checkpoint.tensors[tensor])
        if found is None:
            return None
        optimizer, number, name = found
        words = MOMENTS[name]
        kind: TensorRoleKind = "step" if name == "step" else "moment"
        parameter = self._parameters(optimizer).get(number)
        if parameter is None:
            return TensorRole(f"{words} of a parameter", kind)
        info = self._checkpoint.tensors[parameter]
        if name in _WHOLE and info.shape != self._checkpoint.tensors[tensor].shape:
            return TensorRole(f"{words} of a parameter", kind)
        others = [r for r in self.beside(parameter) if r.tensor != tensor]
        said = f"{words} {'for' if name == 'step' else 'of'} {text.visible(info.key or '', 120)}"
        return TensorRole(said, kind, related=(Related("the parameter", parameter), *others))

    def beside(self, parameter: int) -> tuple[Related, ...]:
        """The moments of a parameter (index of its tensor)."""
        return tuple(self._of_parameter.get(parameter, ()))

    def _entry(self, info: TensorInfo) -> tuple[int, str, str] | None:
        """The optimizer, the number of the parameter (as text) and the name, of one tensor of a state."""
        for optimizer in self._optimizers:
            path = self._checkpoint.state_dicts[optimizer].path
            n = len(path)
            if len(info.path) == n + 3 and info.path[:n] == path and info.path[n] == "state":
                number, name = info.path[n + 1], info.path[n + 2]
                if isinstance(name, str) and name in MOMENTS:
                    return optimizer, number.value if isinstance(number, TypedStep) else number, name
        return None

    @cached_property
    def _optimizers(self) -> tuple[int, ...]:
        return tuple(i for i, s in enumerate(self._checkpoint.state_dicts) if s.role == "optimizer")

    def _parameters(self, optimizer: int) -> Mapping[str, int]:
        return self._parameters_of[optimizer]

    @cached_property
    def _parameters_of(self) -> Mapping[int, Mapping[str, int]]:
        """For each optimizer the number of each parameter -> its tensor; where a number is a key, that key's."""
        return {optimizer: self._found(optimizer) for optimizer in self._optimizers}

    def _found(self, optimizer: int) -> Mapping[str, int]:
        checkpoint = self._checkpoint
        names = parameter_names(checkpoint, optimizer)
        for wanted in ("model", "ema"):
            for state_dict in checkpoint.state_dicts:
                if state_dict.role != wanted:
                    continue
                by_key = {k: t for k, t in zip(state_dict.keys, state_dict.tensor_of, strict=True) if t >= 0}
                if names and all(name in by_key for name in names.values()):
                    return {number: by_key[name] for number, name in names.items()}
                if not names and by_key and len(state_dict.keys) > 1:
                    return by_key  # FSDP and DCP keep the state under the parameters' own names
        return {}

    @cached_property
    def _of_parameter(self) -> Mapping[int, list[Related]]:
        found: dict[int, list[Related]] = {}
        if not self._optimizers:
            return found
        for index, info in enumerate(self._checkpoint.tensors):
            entry = self._entry(info)
            if entry is None or entry[2] == "step":
                continue
            parameter = self._parameters(entry[0]).get(entry[1])
            if parameter is not None:
                found.setdefault(parameter, []).append(Related(MOMENTS[entry[2]], index))
        return found
