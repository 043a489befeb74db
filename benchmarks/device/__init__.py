"""How fast is it on an accelerator, and what does it want of its memory, beside its peers in the same run?

    python -m benchmarks.device --out FOLDER                     # SD 1.5 and SDXL; four minutes on an H100
    python -m benchmarks.device --out FOLDER --tiny              # the same code on small models and a CPU
    python -m benchmarks.device --show FOLDER                    # the tables of a run, as Markdown

SD 1.5 at 512 and SDXL at 1024 pixels, with random weights that are made on the device: time and memory do not
depend on them. Sections: training steps, UNet calls and whole pictures (against diffusers with peft), memory
modes (against what `lorastyle.bases.needs` and the plan computed), and torch.compile.

Contenders share their base weights and take turns in every round; figures are medians of the rounds. A
contender's peak is what the allocator had handed out at most while it worked, without what the others of its
turn hold. What fails is a row with its error, and the run goes on; every row is on disk as soon as it is
measured.
"""
