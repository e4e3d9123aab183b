"""A pretended CUDA device: its tensors, its rules, and torch told that it is there."""

from __future__ import annotations

import ctypes
import functools
import mmap
import re
import types
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretended_cuda import record
from tests.pretended_cuda.costs import Cost, changed_by, cost_of, leaves, mapped, touched
from tests.pretended_cuda.graphs import (
    Graph,
    note_or_record,
    recording,
    recording_into,
    refuse_while_recording,
)
from tests.pretended_cuda.record import note_copy, note_cost, note_line, num_waits

DEVICE = torch.device("cuda", 0)
TOTAL_MEMORY = 141 * 10**9
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
aten = torch.ops.aten

#: Operations after which the host waits: for a size that depends on values, or for a value.
WAITS = {
    "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "histc",
    "multinomial", "_local_scalar_dense", "equal", "is_nonzero",
}  # fmt: skip
READS_VALUE = {"_local_scalar_dense", "equal", "is_nonzero"}
#: Lengths and offsets that torch's CTC copies to the device, in each direction.
COPIES_OF_CTC = 3
#: Copies of more bytes from memory that is not pinned are made piece by piece, in stream order.
STAGED_BYTES = 65536


def note_wait(what: str) -> None:
    refuse_while_recording(what)
    record.note_wait(what)


class Memory:
    """Bytes of the device's storages that are alive, and of all there is."""

    def __init__(self) -> None:
        self.total = TOTAL_MEMORY
        self.now = self.peak = 0
        self._alive: dict[int, int] = {}

    def note(self, values: Tensor) -> None:
        storage = values.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        if self.now + size > self.total:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes")
        self._alive[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)


MEMORY = Memory()


class Mode(TorchDispatchMode):
    """Makes tensors on the device where ``device="cuda"`` is asked for.

    Attributes:
        values: whether values are computed; without, a tensor has a shape alone.
    """

    values = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


class Pretended(Tensor):
    """A tensor on the device; ``host`` has its values."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> Pretended:
        with torch.inference_mode(host.is_inference()):
            made: Pretended = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                host.size(),
                strides=host.stride(),
                storage_offset=host.storage_offset(),
                dtype=host.dtype,
                layout=host.layout,
                device=DEVICE,
            )
        return made

    def __init__(self, host: Tensor) -> None:
        self.host = host
        MEMORY.note(host)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Pretended({self.host!r})"

    def tolist(self) -> Any:
        note_wait("tolist")
        return self.host.tolist() if Mode.values else torch.ones(self.shape).tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy.")

    __array__ = numpy

    def data_ptr(self) -> int:
        return self.host.data_ptr() if Mode.values else id(self.host)

    def untyped_storage(self) -> Any:
        return self.host.untyped_storage()

    def is_pinned(self, *_: Any) -> bool:
        return False

    def record_stream(self, stream: Any) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy = self.detach().clone()
        if getattr(self, "_is_param", False):
            copy = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.host.detach().requires_grad_(self.requires_grad).__reduce_ex__(protocol)


def host_of(x: Any) -> Any:
    return x.host if isinstance(x, Pretended) else x


def on_device(x: Any) -> Any:
    return Pretended(x) if isinstance(x, Tensor) and not isinstance(x, Pretended) else x


def is_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def dispatch(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the host as the device would."""
    parts = [*leaves(args), *leaves(kwargs)]
    mine = [x for x in parts if isinstance(x, Pretended)]
    # In inference mode ``to`` comes as it was called, with the device among the operands.
    device = next((x for x in parts if isinstance(x, torch.device)), kwargs.get("device"))
    if not mine and not is_device(device):
        return func(*args, **kwargs)
    if _is_composite(func) and (made := _decomposed(func, args, kwargs)) is not NotImplemented:
        return made
    name = _name(func)
    if name in ("_use_cudnn_ctc_loss", "_use_miopen_ctc_loss", "cudnn_is_acceptable"):
        return False
    note_line()
    others = [x for x in parts if isinstance(x, Tensor) and not isinstance(x, Pretended)]
    if name == "_to_copy" or (name == "copy_" and others):
        return (_copied if name == "_to_copy" else _overwritten)(*args, **kwargs)
    _note_waits(name, kwargs)
    if name in READS_VALUE and not Mode.values:
        return 1.0
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        others = _after_indices(name, args, others)
    _refuse_mixture(func, name, others)
    return _run(func, name, args, kwargs, mine)


def _decomposed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run what an operation is made of, which is what a device sees; needed in inference mode."""
    with Mode():
        return func.decompose(*args, **kwargs)


def _note_waits(name: str, kwargs: dict[str, Any]) -> None:
    if name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        note_wait(name)
    if name in ("_ctc_loss", "_ctc_loss_backward"):
        for _ in range(COPIES_OF_CTC):
            note_wait("lengths of ctc_loss")


def _run(
    func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], mine: list[Pretended]
) -> Any:
    """Compute on the host, note the cost, and wrap what is on the device."""
    device = kwargs.get("device")
    host_args, host_kwargs = mapped(host_of, args), mapped(host_of, kwargs)
    if device is not None:
        place = "cpu" if Mode.values else "meta"
        host_kwargs["device"] = torch.device(place if is_device(device) else device)
    host_kwargs.pop("pin_memory", None)
    if graph := recording():
        graph.save(changed_by(func, host_args, host_kwargs))
    out = _computed(func, name, host_args, host_kwargs)
    if name in READS_VALUE or (mine and device is not None and not is_device(device)):
        return out
    cost = cost_of(func, name, host_args, host_kwargs, out)
    note_or_record(name, lambda: _computed(func, name, host_args, host_kwargs), out, cost)
    same = {id(x.host): x for x in mine}
    return mapped(lambda x: same[id(x)] if id(x) in same else on_device(x), out)


@functools.cache
def _name(func: Any) -> str:
    return str(func._schema.name).removeprefix("aten::")


@functools.cache
def _is_composite(func: Any) -> bool:
    return bool(func.has_kernel_for_dispatch_key(COMPOSITE))


def _computed(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    if name in ("_softmax", "_log_softmax") and args[2]:  # half in, float out: not on a CPU
        return func(args[0].float(), args[1], False)
    if name in ("_softmax_backward_data", "_log_softmax_backward_data"):
        grad, output, dim, dtype = args
        if grad.dtype != dtype:
            return func(grad, output, dim, grad.dtype).to(dtype)
    return func(*args, **kwargs)


def _copied(x: Tensor, **kwargs: Any) -> Any:
    device, non_blocking = kwargs.get("device"), bool(kwargs.get("non_blocking"))
    to_mine = isinstance(x, Pretended) if device is None else is_device(device)
    rest = {k: v for k, v in kwargs.items() if k not in ("device", "non_blocking", "pin_memory")}
    values = host_of(x)
    if not Mode.values and to_mine and values.device.type != "meta":
        rest["device"] = "meta"
    elif not Mode.values and not to_mine and values.device.type == "meta":
        if not non_blocking:
            note_wait("copy to the host")
        return torch.ones(x.shape, dtype=rest.get("dtype") or x.dtype)
    out = aten._to_copy.default(values, **rest)
    if isinstance(x, Pretended) and to_mine:
        cost = Cost(1, touched(values) + touched(out))
        note_or_record("_to_copy", lambda: aten._to_copy.default(values, **rest), out, cost)
    elif to_mine:
        _note_copy_in(x, non_blocking)
    elif not non_blocking:
        note_wait("copy to the host")
    return Pretended(out) if to_mine else out


def _overwritten(target: Any, source: Any, non_blocking: bool = False) -> Any:
    if isinstance(target, Pretended):
        _note_copy_in(source, non_blocking)
    else:
        note_wait("copy_ to the host")
    if Mode.values:
        aten.copy_.default(host_of(target), host_of(source))
    return target


def _note_copy_in(source: Tensor, non_blocking: bool) -> None:
    """Note a copy from the host: it waits unless it was told not to, and need not be staged."""
    size = source.numel() * source.element_size()
    pinned = getattr(source, "_is_pretended_to_be_pinned", False)
    refuse_while_recording("a copy from the host")
    note_copy(f"{'pinned' if pinned else 'pageable'} copy")
    if not non_blocking or (not pinned and size > STAGED_BYTES):
        note_wait("copy from the host")


def _after_indices(name: str, args: Sequence[Any], others: list[Tensor]) -> list[Tensor]:
    """Note what indices cost; return the operands whose device still matters."""
    indices = [index for index in args[1] if isinstance(index, Tensor)]
    masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
    fills = name != "index" and len(indices) == len(masks) == 1 and args[2].dim() == 0
    if masks and not fills:
        note_wait("a mask as index")
    for index in indices:
        if not isinstance(index, Pretended):
            _note_copy_in(index, non_blocking=False)
    return [x for x in others if not any(x is index for index in indices)]


def _refuse_mixture(func: Any, name: str, others: list[Tensor]) -> None:
    if not others:
        return
    elementwise = torch.Tag.pointwise in func.tags or name.startswith("_foreach")
    if elementwise or name in ("masked_fill", "where", "fill_", "index_put_", "_index_put_impl_"):
        others = [x for x in others if x.dim() > 0]  # a number from the host may take part
    if others:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 "
            f"and cpu! ({func} got {[tuple(x.shape) for x in others]} on the CPU)"
        )


class Event:
    """A place in the stream; to wait for it costs nothing once the host has waited later on."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._waits = -1

    def record(self, *_: Any) -> None:
        self._waits = num_waits()

    def synchronize(self) -> None:
        if self._waits == num_waits():
            note_wait("event")


class Stream:
    """The only one: what is launched in any of them is done in order."""

    def __init__(self, *_: Any) -> None:
        pass

    def record_event(self) -> Event:
        event = Event()
        event.record()
        return event

    def wait_event(self, event: Event) -> None:
        pass


def install(values: bool = True) -> None:
    """Make this process believe in the device until it ends; a second call does nothing.

    Args:
        values: compute values; without, tensors have shapes alone, and what is read is 1.
    """
    import torch._dynamo  # it looks through torch when it is first imported

    if _kept:
        return
    assert not torch.cuda.is_available(), "there is a real device"
    Mode.values = values
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    _deny_contexts()
    _answer_for_cuda()
    _patch_factories()
    _patch_modules()
    Mode().__enter__()


def _deny_contexts() -> None:
    """Tell autograd that no device has a context.

    It asks the driver before each backward pass, and without a driver that is an error. There is no
    switch: the answer goes into the table of virtual functions of ATen's hooks.
    """
    _kept.append(None)
    if not torch.backends.cuda.is_built():
        return
    header = Path(torch.__file__).parent / "include/ATen/detail/AcceleratorHooksInterface.h"
    before, found, _ = header.read_text().partition("hasPrimaryContext(")
    assert found
    slot = len(re.findall(r"^\s*virtual ", before, re.MULTILINE))  # a destructor has two
    get = ctypes.CDLL("libtorch_cpu.so")["_ZN2at6detail12getCUDAHooksEv"]
    get.restype = ctypes.c_void_p
    table = ctypes.cast(get(), ctypes.POINTER(ctypes.c_void_p))[0]
    assert table is not None
    place = table + slot * ctypes.sizeof(ctypes.c_void_p)
    answer = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda *_: False)
    _kept.append(answer)
    page = ctypes.c_void_p(place & ~(mmap.PAGESIZE - 1))
    access = mmap.PROT_READ | mmap.PROT_WRITE
    if ctypes.CDLL(None, use_errno=True).mprotect(page, 2 * mmap.PAGESIZE, access):
        raise OSError(ctypes.get_errno(), "mprotect")
    address = ctypes.cast(answer, ctypes.c_void_p).value
    ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))[0] = address


_kept: list[Any] = []


def _answer_for_cuda() -> None:
    facts = types.SimpleNamespace(
        name="Pretended H200",
        total_memory=TOTAL_MEMORY,
        major=9,
        minor=0,
        multi_processor_count=132,
    )
    answers: dict[str, Any] = {
        "_lazy_init": None,
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "set_device": None,
        "empty_cache": None,
        "get_device_properties": facts,
        "get_device_name": facts.name,
        "get_device_capability": (9, 0),
        "is_bf16_supported": True,
        "manual_seed": None,
        "manual_seed_all": None,
        "device": nullcontext(),
        "device_of": nullcontext(),
        "memory_reserved": 0,
        "memory_allocated": 0,
        "reset_peak_memory_stats": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.cuda.Event = Event  # type: ignore[misc, assignment]
    torch.cuda.CUDAGraph = Graph  # type: ignore[misc, assignment]
    torch.cuda.graph = recording_into  # type: ignore[misc, assignment]
    torch.cuda.Stream = Stream  # type: ignore[misc, assignment]
    torch.cuda.stream = lambda stream: nullcontext()
    torch.cuda.current_stream = lambda *_: Stream()
    torch.cuda.synchronize = lambda *_: note_wait("synchronize")
    torch.cuda.mem_get_info = lambda *_: (MEMORY.total - MEMORY.now, MEMORY.total)
    torch.cuda.max_memory_reserved = torch.cuda.max_memory_allocated = lambda *_: MEMORY.peak
    # The device's random numbers are those of the CPU.
    torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()
    torch.cuda.set_rng_state = lambda state, *_: torch.set_rng_state(state)
    torch.cuda.get_rng_state_all = lambda: [torch.get_rng_state()]
    torch.cuda.set_rng_state_all = lambda states: torch.set_rng_state(states[0])
    torch.cuda.random.manual_seed_all = lambda *_: None
    torch.cuda.is_current_stream_capturing = lambda: False
    torch._C._cuda_isCurrentStreamCapturing = lambda: False
    torch.backends.cudnn.enabled = False


def _patch_factories() -> None:
    def moved(factory: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def make(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
            if is_device(device):
                return factory(*args, **kwargs).to(device)
            return factory(*args, **kwargs, **({} if device is None else {"device": device}))

        return make

    torch.tensor, torch.as_tensor = moved(torch.tensor), moved(torch.as_tensor)
    new_tensor = Tensor.new_tensor

    def made_like(self: Tensor, data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        if not isinstance(self, Pretended):
            return new_tensor(self, data, device=device, **kwargs)
        made = torch.empty((), dtype=self.dtype, device="cpu").new_tensor(data, **kwargs)
        return made.to(DEVICE if device is None else device)

    def pinned(self: Tensor, *_: Any) -> Tensor:
        if isinstance(self, Pretended):
            raise RuntimeError("cannot pin a tensor of the device")
        copy = self.clone()
        copy._is_pretended_to_be_pinned = True  # type: ignore[attr-defined]
        return copy

    Tensor.new_tensor = Pretended.new_tensor = made_like  # type: ignore[method-assign, assignment]
    Tensor.pin_memory = pinned  # type: ignore[method-assign]


def _patch_modules() -> None:
    apply = torch.nn.Module._apply

    def apply_and_keep(self: Any, fn: Any, recurse: bool = True) -> Any:
        # ``to`` keeps the identity of parameters, as between real devices.
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return apply(self, fn, recurse)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    torch.nn.Module._apply = apply_and_keep  # type: ignore[method-assign]
    ctc_loss = torch.ctc_loss

    def with_lists(log_probs: Tensor, targets: Tensor, *rest: Any) -> Tensor:
        # Lengths on the host, as torch has them for tensors that are no subclass.
        lens = [x.tolist() if isinstance(x, Tensor) else x for x in rest[:2]]
        return ctc_loss(log_probs, targets, *lens, *rest[2:])

    torch.ctc_loss = with_lists
    lstm = torch._VF.lstm  # type: ignore[attr-defined]

    def run(*args: Any) -> Any:
        tensors = [x for x in leaves(args) if isinstance(x, Pretended)]
        return _Lstm.apply(lstm, args, *tensors) if tensors else lstm(*args)

    torch._VF.lstm = run  # type: ignore[attr-defined]


class _Lstm(torch.autograd.Function):
    """An LSTM as one operation, as in cuDNN; differentiated on the host."""

    @staticmethod
    def forward(ctx: Any, function: Any, args: Any, *tensors: Any) -> Any:
        values = [x.host.detach().requires_grad_() for x in tensors]
        by_tensor = {id(x): value for x, value in zip(tensors, values, strict=True)}
        with torch.enable_grad():
            ctx.outs = function(*mapped(lambda x: by_tensor.get(id(x), x), args))
        ctx.values = values
        hosts = [out.detach() for out in ctx.outs]

        @torch.no_grad()
        def work() -> Any:
            return function(*mapped(lambda x: by_tensor.get(id(x), x), args))

        cost = Cost(10, 4.0 * sum(touched(x) for x in (*values, *hosts)))
        note_or_record("lstm", work, hosts, cost)
        return tuple(map(Pretended, hosts))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        pairs = [(out, host_of(g)) for out, g in zip(ctx.outs, grads, strict=True) if g is not None]
        outs, given = zip(*pairs, strict=True)
        with torch.enable_grad():
            found = torch.autograd.grad(outs, ctx.values, given, allow_unused=True)
        note_cost("lstm", Cost(20, 8.0 * sum(map(touched, ctx.values))))
        return None, None, *(None if g is None else Pretended(g) for g in found)
