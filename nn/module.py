"""A Module is an object whose attributes are parameters, buffers and further modules; it can list, save and load them.

Names follow the attributes: `model.encoder.convs[0].weight` is "encoder.convs.0.weight".
"""
from nn import backend
from nn.tensor import Buffer, Parameter


class Module:
    """Base of all layers and networks. A subclass makes its parts in __init__ and writes forward(...)."""

    training = True

    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        # Parameters learn their path, so that an error can name them. Inner parts are assigned first, outer ones later.
        for path, tensor in _walk(name, value):
            if isinstance(tensor, Parameter):
                tensor.name = path

    def named_tensors(self):
        """Pairs (name, Parameter or Buffer), in the order in which they were assigned; a shared one comes once."""
        seen = set()
        for name, value in vars(self).items():
            for path, tensor in _walk(name, value):
                if tensor not in seen:
                    seen.add(tensor)
                    yield path, tensor

    def named_parameters(self):
        """Pairs (name, Parameter)."""
        return [(name, t) for name, t in self.named_tensors() if isinstance(t, Parameter)]

    def parameters(self):
        """All Parameters."""
        return [p for _, p in self.named_parameters()]

    def modules(self):
        """This module and all within it."""
        yield self
        for value in vars(self).values():
            yield from _modules_within(value)

    def state_dict(self):
        """{name: array} of all parameters and buffers; copies, in host memory."""
        return {name: t.numpy().copy() for name, t in self.named_tensors()}

    def load_state_dict(self, state):
        """Take over the arrays of a state_dict, checked first: on an error nothing has changed.

        Names, shapes and dtypes must fit (a narrower float, such as float16 in a file, is widened). Raises ValueError
        that names the key and both sides.
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
        """Switch layers that behave differently in training (batch norm, dropout). Returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        """train(False)"""
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
        """What repr() shows of a layer without parts."""
        return ", ".join(f"{name} {t.shape}" for name, t in self.named_tensors())


class Sequential(Module):
    """Modules, or functions, one after the other."""

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
    """The modules of an attribute and all within them; lists are entered."""
    if isinstance(value, Module):
        yield from value.modules()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _modules_within(part)


def _walk(name, value):
    """Pairs (path, Parameter or Buffer) below an attribute: modules, and lists of them, are entered."""
    if isinstance(value, (Parameter, Buffer)):
        yield name, value
    elif isinstance(value, Module):
        for path, tensor in value.named_tensors():
            yield f"{name}.{path}", tensor
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _walk(f"{name}.{i}", part)
