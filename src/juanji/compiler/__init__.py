"""From a graph to a plan: passes, fusion, lowering to kernel calls, memory."""
