"""What the hooks catch, against what the model's own attention computes."""

import pytest
import torch
import transformers as tf
from tiny_models import make_bert

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES
from distill.capture import Wanted, observe
from distill.objectives.relations import relation_scores

SHAPE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
TINY = {
    "bert": lambda: tf.BertForSequenceClassification(tf.BertConfig(**SHAPE)),
    "roberta": lambda: tf.RobertaForSequenceClassification(tf.RobertaConfig(**SHAPE, pad_token_id=0)),
    "xlm-roberta": lambda: tf.XLMRobertaForSequenceClassification(tf.XLMRobertaConfig(**SHAPE, pad_token_id=0)),
    "camembert": lambda: tf.CamembertForSequenceClassification(tf.CamembertConfig(**SHAPE, pad_token_id=0)),
    "electra": lambda: tf.ElectraForSequenceClassification(tf.ElectraConfig(**SHAPE, embedding_size=32)),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(
        tf.DistilBertConfig(vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=64)
    ),
    "mpnet": lambda: tf.MPNetForSequenceClassification(tf.MPNetConfig(**SHAPE)),
}


def eager(name: str):
    torch.manual_seed(0)
    model = TINY[name]().eval()
    model.set_attn_implementation("eager")
    return model


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def test_every_architecture_has_a_tiny_model():
    """Oracle: the table itself; a new row without a test fails here."""
    assert set(TINY) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", sorted(set(TINY) - {"mpnet"}))
def test_caught_queries_and_keys_are_the_models_own(name):
    """Oracle: the attention probabilities that the model returns itself."""
    model, batch = eager(name), inputs()
    probabilities = model(**batch, output_attentions=True).attentions[1]
    seen = observe(model, batch, Wanted(layers=(2,))).projections[2]
    bias = torch.where(batch["attention_mask"].bool(), 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
    ours = (relation_scores(seen.Q, seen.K, 4) + bias).softmax(-1)
    torch.testing.assert_close(ours, probabilities, atol=1e-6, rtol=0)


def test_mpnet_adds_its_position_bias_after_the_products():
    """Oracle: MPNet's own probabilities once its relative position bias is added to our scores."""
    model, batch = eager("mpnet"), inputs()
    probabilities = model(**batch, output_attentions=True).attentions[1]
    seen = observe(model, batch, Wanted(layers=(2,))).projections[2]
    bias = torch.where(batch["attention_mask"].bool(), 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
    position = model.mpnet.encoder.compute_position_bias(torch.zeros(2, 7, 32))
    ours = (relation_scores(seen.Q, seen.K, 4) + position + bias).softmax(-1)
    torch.testing.assert_close(ours, probabilities, atol=1e-6, rtol=0)


def test_nothing_above_the_captured_layer_is_computed():
    """Oracle: hooks that count the calls of each layer; layer 2's output is never made either."""
    model, calls = make_bert(layers=3), []
    for index, layer in enumerate(model.bert.encoder.layer):
        layer.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
        layer.register_forward_hook(lambda *_, index=index: calls.append(f"{index} done"))
    seen = observe(model, {"input_ids": torch.randint(5, 20, (2, 7))}, Wanted(layers=(2,)))
    assert calls == [0, "0 done", 1]
    assert seen.logits is None


def test_logits_beside_relations_come_from_the_same_pass():
    """Oracle: the model called plainly."""
    model, batch = make_bert(), {"input_ids": torch.randint(5, 20, (2, 7))}
    seen = observe(model, batch, Wanted(layers=(1,), logits=True))
    torch.testing.assert_close(seen.logits, model(**batch).logits)
    assert seen.projections[1].heads == 4


def test_a_layer_that_is_not_there_is_named():
    """Oracle: the message a user reads."""
    with pytest.raises(ModelError, match="layer 5 was asked of a model with layers 1 to 2"):
        observe(make_bert(), {"input_ids": torch.zeros(1, 3, dtype=torch.long)}, Wanted(layers=(5,)))
