"""Decontamination: which rows of a corpus hold a picture or a question of an evaluation set (docs/dedup.md).

    sets.py     files of evaluation sets → items: texts, pictures, hashes
    texts.py    texts → 64-bit hashes of word n-grams
    index.py    items → what rows are looked up in

The step that does it for every shard is pipelines/steps/decontaminate.py.
"""
