"""What the paper says of the same comparisons (Mukherjee and Hassan Awadallah, arXiv 2004.05686)."""

TEACHER_F1 = 91.86
"""mBERT, mean over 41 languages (table 5)."""

STUDENT_F1 = {"labels": 81.44, "logits": 82.74, "joint": 82.38, "staged": 84.82, "unfrozen": 87.10}
"""Table 3 with a transfer set as large as the labelled one (0.7M sentences), as here: D0-S, D1, D2, D4.1 and D4.2."""

WAYS = {
    "labels": "labels only (D0-S)",
    "logits": "labels and logits together (D1)",
    "joint": "labels, logits and representation together (D2)",
    "staged": "representation, logits, labels in stages (D4.1)",
    "unfrozen": "the same, unfreezing from the top down (D4.2)",
    "wide": "as staged, the transfer set eight times as large",
    "random": "as staged, from random embeddings",
}
"""Models of `recipes/xtremedistil/ner.yaml` in words; the names in brackets are the paper's."""

_NOTES = """
Table 3 (0.7M sentences of transfer text), mean F1 over 41 languages: labels only 81.44, labels and logits 82.74, all
jointly 82.38, staged 84.82, staged with gradual unfreezing 87.10; the teacher, mBERT, 91.86. With 7.2M: 85.94 for
labels and logits, 88.52 for the last. Its teacher has 179M parameters and learnt from 705,000 sentences of WikiAnn;
ours has a tenth of the parameters, and learnt from 4,000 sentences.

Table 7: embeddings by SVD of the fine-tuned teacher 88.64, random ones 87.43.

Table 16: 35.1 times fewer parameters and 86.46 F1 (94.1 % of the teacher) at 5.1M; 51 times faster in batches of 32 on
a GPU, 16 times for single texts on a CPU. Most of what is saved is embeddings, which here are of 16,000 pieces and not
of 110,000, so there is less to save.

XtremeDistilTransformers (arXiv 2106.04563): RTE 68.9 with MiniLM 6x384, and 80.9 with a student of that shape whose
source task was MNLI, of 393,000 pairs. MRPC has 3,668.
"""
NOTES = tuple(" ".join(note.split()) for note in _NOTES.split("\n\n"))
"""The paper's own figures, and what differs here."""
