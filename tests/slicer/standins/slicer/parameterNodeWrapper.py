"""Stand-in for `slicer.parameterNodeWrapper`, which no package has: typed attributes kept in a real
vtkMRMLScriptedModuleNode, and two-way connections with widgets by their `SlicerParameterName`.

It knows the types that the module uses and refuses all others. Passing here proves nothing about Slicer's own wrapper.
"""

import typing
from dataclasses import dataclass

import vtk


@dataclass(frozen=True)
class Choice:
    choices: list

    def check(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not among {self.choices}")


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not from {self.minimum} to {self.maximum}")


def parameterNodeWrapper(cls):
    """Makes a class's annotations attributes that live in a parameter node."""
    names = {}
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        validators = getattr(kind, "__metadata__", ())
        plain = typing.get_args(kind)[0] if validators else kind
        default = getattr(cls, name, None)
        names[name] = (plain, validators)
        setattr(cls, name, _node_property(name) if hasattr(plain, "SafeDownCast") else _value_property(name, plain, validators, default))
    cls._parameter_names = names
    for method in (__init, connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(cls, "__init__" if method is __init else method.__name__, method)
    return cls


def _node_property(name):
    def get(self):
        return self.parameterNode.GetNodeReference(name)

    def put(self, node):
        self.parameterNode.SetNodeReferenceID(name, node.GetID() if node is not None else None)

    return property(get, put)


def _value_property(name, kind, validators, default):
    if kind not in (str, bool, int, float):
        raise TypeError(f"{name}: the stand-in knows no {kind}")

    def get(self):
        text = self.parameterNode.GetParameter(name) if self.parameterNode.HasParameter(name) else None
        if text is None:
            return default if default is not None else kind()
        return text == "True" if kind is bool else kind(text)

    def put(self, value):
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {kind.__name__}, not {value!r}")
        for validator in validators:
            validator.check(value)
        self.parameterNode.SetParameter(name, str(value))

    return property(get, put)


def __init(self, parameterNode):
    self.parameterNode = parameterNode


def AddObserver(self, event, callback, *rest):
    return self.parameterNode.AddObserver(event, callback, *rest)


def RemoveObserver(self, tag):
    self.parameterNode.RemoveObserver(tag)


def connectGui(self, ui):
    """Connects every widget that has a `SlicerParameterName`."""
    connections = [
        _Connection(self, widget.property("SlicerParameterName"), widget)
        for widget in vars(ui).values()
        if widget.property("SlicerParameterName")
    ]

    def changed(*_):
        for connection in connections:
            connection.show()

    changed()
    return self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, changed), connections


def disconnectGui(self, tag):
    observer, connections = tag
    self.parameterNode.RemoveObserver(observer)
    for connection in connections:
        connection.parameters = None


class _Connection:
    """One widget and one parameter."""

    def __init__(self, parameters, name, widget):
        if name not in type(parameters)._parameter_names:
            raise ValueError(f"{widget.name}: there is no parameter {name}")
        self.parameters, self.name, self.widget = parameters, name, widget
        self.showing = False
        kind, validators = type(parameters)._parameter_names[name]
        if hasattr(kind, "SafeDownCast"):
            self.read, self.write = widget.currentNode, widget.setCurrentNode
            signal = "currentNodeChanged(vtkMRMLNode*)"
        elif kind is bool:
            self.read, self.write, signal = lambda: widget.checked, widget.setChecked, "toggled(bool)"
        elif kind is int:
            self.read, self.write, signal = lambda: widget.value, widget.setValue, "valueChanged(int)"
        elif validators:
            widget.clear()
            for choice in validators[0].choices:
                widget.addItem(choice)
            self.read = lambda: widget.currentText
            self.write, signal = widget.setCurrentText, "currentTextChanged(QString)"
        else:
            self.read, self.write, signal = lambda: widget.text, widget.setText, "textChanged(QString)"
        self.show()
        widget.connect(signal, self.take)

    def show(self):
        value = getattr(self.parameters, self.name)
        if not self.showing and self.read() != value:
            self.showing = True
            self.write(value)
            self.showing = False

    def take(self, *_):
        if self.parameters is not None and not self.showing and getattr(self.parameters, self.name) != self.read():
            setattr(self.parameters, self.name, self.read())
