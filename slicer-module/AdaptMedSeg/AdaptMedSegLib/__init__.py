"""What the module AdaptMedSeg does, without any window: nothing in this package knows of Qt, views or layouts, so that it
also runs in scripts and in tests. Only the main thread touches the scene; threads see arrays and the library alone.

    library      the package `adaptmedseg`, loaded when it is first needed
    catalogue    the models and adapters of a folder
    geometry     volumes of the scene as images of the library
    prompts      points, box and name, as the scene has them and as the library wants them
    segments     masks as segments: names, colours, terminology, what happens to finished segments
    jobs         long calls on a thread, their news on the main one
    segmenter    a volume being segmented: runs, undo, the next segment
    training     segments as training pairs, and the adapter made of them
"""
