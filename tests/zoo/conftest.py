"""`plain_torch.py` needs PyTorch and has no tests of its own: the tests beside it import it where PyTorch is."""

import pytest

import juanji as jj
from juanji import zoo
from juanji.zoo.classifier import initialise

collect_ignore = ["plain_torch.py"]


@pytest.fixture
def light():
    """`light(name, ...)`: a model, with a narrow classifier where its own would take most of a gigabyte.

    VGG and AlexNet have over 60 million parameters, nearly all of them in two linear layers.
    """

    def create(name, **options):
        if not name.startswith(("vgg", "alexnet")):
            return zoo.create(name, **options)
        with jj.nn.init.skipped():
            model = zoo.create(name, **options)
            for at, layer in enumerate(list(model.classifier)):
                if isinstance(layer, jj.nn.Linear):
                    outs = 16 if layer.out_features == 4096 else layer.out_features
                    ins = 16 if layer.in_features == 4096 else layer.in_features
                    model.classifier[at] = jj.nn.Linear(ins, outs)
        initialise(model)
        return model

    return create
