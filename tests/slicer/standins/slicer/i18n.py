"""Stand-in for `slicer.i18n`, which no package has: texts as they are."""


def tr(text, *_):
    return text


def translate(_context, text, *_):
    return text
