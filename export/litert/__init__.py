"""LiteRT files: conversion, signatures and GPU-delegate rules."""
