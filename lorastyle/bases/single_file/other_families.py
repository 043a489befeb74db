"""Tensor names that give other families' checkpoints away. lorastyle does not draw with these.

Source: the state dicts that the families' makers publish, by the class of their code that is named below. A
name may stand alone, or below `model.diffusion_model.` and its like.
"""

from __future__ import annotations

OTHER_FAMILIES: tuple[tuple[str, str], ...] = (
    # (how a name begins, what it is a model of); the first that fits is the one to tell
    (r"joint_blocks\.", "a Stable Diffusion 3"),  # MMDiT
    (r"txt_in\.individual_token_refiner\.|context_embedder\.token_refiner\.", "a HunyuanVideo"),
    (r"distilled_guidance_layer\.", "a Chroma"),
    (r"double_stream_modulation_img\.|single_stream_modulation\.", "a Flux.2"),
    (r"double_stream_blocks\.|caption_projection\.\d+\.linear", "a HiDream"),
    (r"double_blocks\.|single_blocks\.|single_transformer_blocks\.", "a Flux"),
    (r"(?:clip_txt_mapper|effnet_mapper\.\d+|clf\.\d+)\.", "a Stable Cascade"),  # StageC, StageB
    (r"double_layers\.\d+\.attn\.w1q", "an AuraFlow"),
    (r"mlp_t5\.|text_embedding_padding", "a HunyuanDiT"),
    (r"t5_y(?:proj|_embedder)\b", "a Mochi video"),
    (r"head\.modulation$|blocks\.\d+\.cross_attn\.norm_k\.|condition_embedder\.", "a Wan video"),
    (r"transformer_blocks\.\d+\.(?:img_mod|txt_mlp)\.", "a Qwen-Image"),
    (r"transformer_blocks\.\d+\.attn\.add_q_proj\.", "a Stable Diffusion 3"),  # as diffusers names it
    (r"(?:noise_refiner|context_refiner|cap_embedder)\.", "a Lumina (Z-Image)"),  # NextDiT
    (r"(?:t_block\.\d|y_embedder\.y_proj\.)", "a PixArt"),
    (r"patchify_proj\.|adaln_single\.emb\.", "an LTX-Video or PixArt"),
    (r"(?:net\.)?blocks\.block\d+\.|x_embedder\.proj\.1\.", "a Cosmos"),
    (r"transformer\.rotary_pos_emb\.inv_freq", "a Stable Audio"),
    (r"encoder_hid_proj\.", "a Kolors"),
    (r"caption_embedder\.|linear_fuse\.|attention_y_embedder\.", "a Sana"),
)
