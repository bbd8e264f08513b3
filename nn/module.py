"""Modules list, save and load the parameters, buffers and submodules among their attributes.

Names follow the attributes: `model.encoder.convs[0].weight` is "encoder.convs.0.weight". Lists,
tuples and dictionaries of modules are searched; other containers of modules are refused.
"""
from collections import UserList, deque
from collections.abc import Mapping, MappingView

from nn import backend
from nn.tensor import Buffer, Parameter


class Module:
    """Base class of layers and networks. A subclass assigns its parameters and submodules to
    attributes in __init__ and defines forward(...)."""

    training = True

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def __setattr__(self, name, value):
        # Store each Parameter's path in it, for error messages. Inner modules are assigned before
        # outer ones, so the last path written is the full one.
        for path, tensor in _walk(name, value):
            if isinstance(tensor, Parameter):
                tensor.name = path
        object.__setattr__(self, name, value)

    def named_tensors(self):
        """Yield pairs (name, Parameter or Buffer) in the order of assignment, shared ones once."""
        seen = set()
        for name, value in vars(self).items():
            for path, tensor in _walk(name, value):
                if tensor not in seen:
                    seen.add(tensor)
                    if isinstance(tensor, Parameter) and path.endswith(tensor.name or ""):
                        tensor.name = path  # a list or dictionary of modules has grown since its assignment
                    yield path, tensor

    def named_parameters(self):
        """Return a list of pairs (name, Parameter)."""
        return [(name, t) for name, t in self.named_tensors() if isinstance(t, Parameter)]

    def parameters(self):
        """Return a list of all Parameters."""
        return [p for _, p in self.named_parameters()]

    def named_modules(self, name=""):
        """Yield pairs (name, module) of this module and all its submodules."""
        yield name, self
        for attribute, value in vars(self).items():
            yield from _modules_within(f"{name}.{attribute}" if name else attribute, value)

    def modules(self):
        """Yield this module and all its submodules."""
        return (module for _, module in self.named_modules())

    def state_dict(self):
        """Return {name: array} of all parameters and buffers: copies in host memory."""
        return {name: t.numpy().copy() for name, t in self.named_tensors()}

    def load_state_dict(self, state):
        """Load the arrays of a state_dict.

        Names, shapes and dtypes must match (a narrower float, such as float16, is widened).
        Otherwise nothing changes, and a ValueError names the key, what was expected and what came.
        """
        tensors = dict(self.named_tensors())
        missing, unknown = sorted(tensors.keys() - state.keys()), sorted(state.keys() - tensors.keys())
        if missing or unknown:
            raise ValueError(f"load_state_dict: missing in the file: {', '.join(missing) or 'nothing'}; "
                             f"unknown to this {type(self).__name__}: {', '.join(unknown) or 'nothing'}")
        arrays = {name: backend.as_array(state[name]) for name in tensors}
        for name, tensor in tensors.items():
            array = arrays[name]
            widens = array.dtype.kind == tensor.dtype.kind and array.dtype.itemsize <= tensor.dtype.itemsize
            if array.shape != tensor.shape or not widens:
                raise ValueError(f"load_state_dict: {name} should be {tensor.shape} {tensor.dtype}, "
                                 f"the file has {array.shape} {array.dtype}")
        for name, tensor in tensors.items():
            tensor.data = backend.to_device(arrays[name].astype(tensor.dtype), tensor.device)

    def train(self, mode=True):
        """Set training mode, which batch norm and dropout depend on. Returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """Set evaluation mode: train(False). Returns self."""
        return self.train(False)

    def to(self, device):
        """Move all parameters and buffers to 'cpu' or 'cuda', in place. Returns self."""
        for _, tensor in self.named_tensors():
            if tensor.device != device:
                tensor.data = backend.to_device(tensor.data, device)
                tensor.grad = None
        return self

    def __repr__(self):
        parts = [f"{name}: {getattr(value, '__name__', value)}" for name, value in vars(self).items()
                 if isinstance(value, Module) or name.isdigit()]  # digits: Sequential may hold functions
        text = "\n".join(parts).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {text}\n)" if parts else f"{type(self).__name__}({self.describe()})"

    def describe(self):
        """Return what repr() shows for a module without submodules."""
        return ", ".join(f"{name} {t.shape}" for name, t in self.named_tensors())


class Sequential(Module):
    """Modules or functions applied one after the other."""

    def __init__(self, *layers):
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)

    def __iter__(self):
        return iter([value for name, value in vars(self).items() if name.isdigit()])

    def __len__(self):
        return len(list(iter(self)))

    def __getitem__(self, index):
        return list(iter(self))[index]

    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x


def _modules_within(name, value):
    """Yield pairs (name, module) of an attribute and all their submodules."""
    if isinstance(value, Module):
        yield from value.named_modules(name)
    for key, part in _parts(value):
        yield from _modules_within(f"{name}.{key}", part)


def _walk(name, value):
    """Yield pairs (path, Parameter or Buffer) of an attribute."""
    if isinstance(value, (Parameter, Buffer)):
        yield name, value
    elif isinstance(value, Module):
        for path, tensor in value.named_tensors():
            yield f"{name}.{path}", tensor
    for key, part in _parts(value):
        yield from _walk(f"{name}.{key}", part)


def _parts(value):
    """Return the pairs (key, part) of a list, tuple or dictionary; of anything else, none."""
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, (set, frozenset, deque, UserList, Mapping, MappingView)) and any(
            isinstance(part, (Module, Parameter, Buffer))
            for part in (value.values() if isinstance(value, Mapping) else value)):
        raise TypeError(f"Module: a {type(value).__name__} of modules or parameters would be neither trained nor "
                        "saved; use a list, a tuple or a dictionary")
    return ()
