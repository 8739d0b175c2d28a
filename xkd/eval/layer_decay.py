"""Layer-wise learning rates: the deeper a layer lies below the head, the slower it is fine-tuned."""

from timm.optim import param_groups_layer_decay

from xkd.eval.classifier import Classifier


def param_groups(classifier: Classifier, weight_decay: float, layer_decay: float) -> list[dict]:
    """AdamW's groups, each with its `lr_scale` and `weight_decay`, over what is trained.

    A parameter of layer i of L has the scale layer_decay ** (L - i), where tokenizer, positions and class token are layer 0, block
    b is layer b + 1, and norm and head are layer L (13 of a base encoder). Biases and 1-D tensors are not decayed.
    """
    return param_groups_layer_decay(classifier, weight_decay=weight_decay, layer_decay=layer_decay)
