"""Exercises of the notebooks of methods: one module a method, each with `ex`, which checks a solution.

What is right is computed by the library's recipe. Each wrong solution that is known by name is a pitfall of the method
or a bug of a release, and differs from the right one in one part.
"""
