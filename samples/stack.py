"""Two adapters in one picture. First make them, here or anywhere:

lorastyle train --images samples/sticker
lorastyle train --images samples/ink
python samples/stack.py
"""

from lorastyle import AdapterUse, Engine, GenerateRequest, load_base, save_picture

engine = Engine(load_base())
both = (AdapterUse("sticker", 0.7), AdapterUse("ink", 0.5))
request = GenerateRequest("a cat, sticker style, ink style", adapters=both, seed=7, number=4)
for picture in engine.generate(request):
    print(save_picture(picture, "pictures/stack.png"))
