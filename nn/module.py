"""Modules list, save and load the parameters, buffers and submodules among their attributes.

Names follow the attributes: `model.encoder.convs[0].weight` is "encoder.convs.0.weight".
"""
from nn import backend
from nn.tensor import Buffer, Parameter


class Module:
    """Base class of layers and networks. A subclass assigns its parameters and submodules to
    attributes in __init__ and defines forward(...)."""

    training = True

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        # Store each Parameter's path in it, for error messages. Inner modules are assigned before
        # outer ones, so the last path written is the full one.
        for path, tensor in _walk(name, value):
            if isinstance(tensor, Parameter):
                tensor.name = path

    def named_tensors(self):
        """Yield pairs (name, Parameter or Buffer) in the order of assignment, shared ones once."""
        seen = set()
        for name, value in vars(self).items():
            for path, tensor in _walk(name, value):
                if tensor not in seen:
                    seen.add(tensor)
                    yield path, tensor

    def named_parameters(self):
        """Return a list of pairs (name, Parameter)."""
        return [(name, t) for name, t in self.named_tensors() if isinstance(t, Parameter)]

    def parameters(self):
        """Return a list of all Parameters."""
        return [p for _, p in self.named_parameters()]

    def modules(self):
        """Yield this module and all its submodules."""
        yield self
        for value in vars(self).values():
            yield from _modules_within(value)

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
        parts = [f"{name}: {value!r}" for name, value in vars(self).items() if isinstance(value, Module)]
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


def _modules_within(value):
    """Yield the modules of an attribute and all their submodules; lists are searched."""
    if isinstance(value, Module):
        yield from value.modules()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _modules_within(part)


def _walk(name, value):
    """Yield pairs (path, Parameter or Buffer) of an attribute; modules and lists are searched."""
    if isinstance(value, (Parameter, Buffer)):
        yield name, value
    elif isinstance(value, Module):
        for path, tensor in value.named_tensors():
            yield f"{name}.{path}", tensor
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _walk(f"{name}.{i}", part)
