# All defaults; what HybridBlock.export wrote lies beside this folder.
